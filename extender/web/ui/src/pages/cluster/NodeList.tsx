import { useElementSize } from '@mantine/hooks'
import { useWindowVirtualizer, type Virtualizer } from '@tanstack/react-virtual'
import { memo, useEffect, useMemo, useRef, useState } from 'react'

import { count, shortProduct } from '../../api/format.ts'
import type { NodeRow } from '../../api/types.ts'
import { StateBar } from '../../parts/Bars.tsx'
import classes from './cluster.module.css'
import { linesOf, type Group, type Line } from './grouping.ts'
import { MOST_GLYPHS, NodeCard } from './NodeCard.tsx'

const CARD_WIDTH = 236
const GAP = 12

/** All groups with their cards; only the lines near the window are in the document. */
export function NodeList({ groups }: { groups: readonly Group[] }) {
  const { ref: sized, width } = useElementSize()
  const top = useRef<HTMLDivElement>(null)
  const [offset, setOffset] = useState(0)
  // In a frame of its own: a read right after the rows were drawn would lay the page out once more.
  useEffect(() => {
    const frame = requestAnimationFrame(() => {
      if (top.current !== null) setOffset(Math.round(top.current.getBoundingClientRect().top + window.scrollY))
    })
    return () => cancelAnimationFrame(frame)
  }, [width, groups])
  const columns = Math.max(1, Math.floor(((width || 1200) + GAP) / (CARD_WIDTH + GAP)))
  const lines = useMemo(() => linesOf(groups, columns), [groups, columns])
  const virtual = useWindowVirtualizer({
    count: lines.length,
    estimateSize: (index) => estimatedHeight(lines[index]!),
    measureElement: measuredHeight,
    getItemKey: (index) => lines[index]!.key,
    overscan: 1, // each further line is drawn for nothing in most turns of the wheel
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
              <LineContent line={line} columns={columns} />
            </div>
          )
        })}
      </div>
    </div>
  )
}

/** A line's height in pixels before it is drawn. A row of eight GPUs is 24 high; see GpuStrip. */
function estimatedHeight(line: Line): number {
  if (line.kind === 'heading') return 50
  const rows = line.kind === 'cards' ? line.rows : line.groups.flatMap((group) => group.rows)
  const strips = Math.max(1, ...rows.map((row) => Math.ceil(Math.min(row.gpus, MOST_GLYPHS) / 8)))
  return (line.kind === 'cards' ? 116 : 172) + 24 * (strips - 1)
}

type Virtual = Virtualizer<Window, HTMLDivElement>

/**
 * A line's height as the browser has laid it out. A line that was just added has the height that is assumed for it: to ask the browser would
 * lay the whole page out at once, for each line. Its observer tells the height in the same frame, before the line is painted.
 */
function measuredHeight(element: HTMLDivElement, entry: ResizeObserverEntry | undefined, virtual: Virtual): number {
  const box = entry?.borderBoxSize[0]
  if (box !== undefined) return Math.round(box.blockSize)
  const index = virtual.indexFromElement(element)
  return virtual.itemSizeCache.get(virtual.options.getItemKey(index)) ?? virtual.options.estimateSize(index)
}

/** A line is drawn anew when its rows change, not when the window scrolls. */
const LineContent = memo(function LineContent({ line, columns }: { line: Line; columns: number }) {
  if (line.kind === 'heading') return <GroupHeading group={line.group} />
  if (line.kind === 'cards') return <Cards rows={line.rows} columns={columns} />
  return (
    <div className={classes.cards} style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>
      {line.groups.map((group) => (
        <div key={group.key} className={classes.small} style={{ gridColumn: `span ${group.rows.length}` }}>
          <GroupHeading group={group} columns={group.rows.length} />
          <Cards rows={group.rows} columns={group.rows.length} />
        </div>
      ))}
    </div>
  )
})

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
      <h2 title={group.product ?? undefined}>{shortProduct(group.product)}</h2>
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
