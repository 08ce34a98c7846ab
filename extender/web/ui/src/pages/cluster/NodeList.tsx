import { useElementSize } from '@mantine/hooks'
import { useWindowVirtualizer } from '@tanstack/react-virtual'
import { useLayoutEffect, useMemo, useRef, useState } from 'react'

import { count, shortProduct } from '../../api/format.ts'
import type { NodeRow } from '../../api/types.ts'
import { StateBar } from '../../parts/Bars.tsx'
import classes from './cluster.module.css'
import { linesOf, type Group } from './grouping.ts'
import { NodeCard } from './NodeCard.tsx'

const CARD_WIDTH = 236
const GAP = 12

/** All groups with their cards; only the lines near the window are in the document. */
export function NodeList({ groups }: { groups: readonly Group[] }) {
  const { ref: sized, width } = useElementSize()
  const top = useRef<HTMLDivElement>(null)
  const [offset, setOffset] = useState(0)
  useLayoutEffect(() => {
    if (top.current !== null) setOffset(Math.round(top.current.getBoundingClientRect().top + window.scrollY))
  }, [width, groups])
  const columns = Math.max(1, Math.floor(((width || 1200) + GAP) / (CARD_WIDTH + GAP)))
  const lines = useMemo(() => linesOf(groups, columns), [groups, columns])
  const virtual = useWindowVirtualizer({
    count: lines.length,
    estimateSize: (index) => ({ band: 172, heading: 50, cards: 116 })[lines[index]!.kind],
    getItemKey: (index) => lines[index]!.key,
    overscan: 3,
    useFlushSync: false, // scrolling goes on while the new lines are drawn
    scrollMargin: offset,
  })
  return (
    <div ref={top}>
      <div ref={sized} className={classes.list} style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const line = lines[item.index]!
          return (
            <div
              key={item.key}
              ref={virtual.measureElement}
              data-index={item.index}
              className={classes.line}
              style={{ transform: `translateY(${item.start - offset}px)` }}
            >
              {line.kind === 'heading' ? (
                <GroupHeading group={line.group} />
              ) : line.kind === 'cards' ? (
                <Cards rows={line.rows} columns={columns} />
              ) : (
                <div className={classes.cards} style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>
                  {line.groups.map((group) => (
                    <div key={group.key} className={classes.small} style={{ gridColumn: `span ${group.rows.length}` }}>
                      <GroupHeading group={group} columns={group.rows.length} />
                      <Cards rows={group.rows} columns={group.rows.length} />
                    </div>
                  ))}
                </div>
              )}
            </div>
          )
        })}
      </div>
    </div>
  )
}

function Cards({ rows, columns }: { rows: readonly NodeRow[]; columns: number }) {
  return (
    <div className={classes.cards} style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>
      {rows.map((row) => (
        <NodeCard key={row.name} row={row} />
      ))}
    </div>
  )
}

/** `columns`: how many cards it may be wide. A heading is one line high, so that the cards of a band are level. */
function GroupHeading({ group, columns = 9 }: { group: Group; columns?: number }) {
  const gpus = Object.values(group.counts).reduce((sum, n) => sum + n, 0)
  return (
    <div className={classes.heading}>
      <h2>{shortProduct(group.product)}</h2>
      <span className={classes.fabric}>{group.fabric}</span>
      {columns > 1 && (
        <span className={`quiet number ${classes.headingText}`}>
          {columns > 2 && `${count(group.rows.length, 'node')} · `}
          {group.counts.free.toLocaleString('en')} of {count(gpus, 'GPU')} free
        </span>
      )}
      {columns > 2 && (
        <span className={classes.headingBar}>
          <StateBar counts={group.counts} thin />
        </span>
      )}
    </div>
  )
}
