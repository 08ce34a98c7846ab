import { IconAlertTriangle, IconBan } from '@tabler/icons-react'
import { memo, useEffect, useRef } from 'react'
import { Link } from 'react-router'

import { count, percent } from '../../api/format.ts'
import type { NodeRow } from '../../api/types.ts'
import { Meter } from '../../parts/Bars.tsx'
import { GpuStrip, gpuWords } from '../../parts/GpuGlyph.tsx'
import classes from './cluster.module.css'

/** Units of shared GPUs are many; the numbers below count all. */
export const MOST_GLYPHS = 32

/** One node: its GPUs, what is free, its pressure. The whole card leads to the node's page. */
export const NodeCard = memo(function NodeCard({ row }: { row: NodeRow }) {
  const before = useRef(row)
  const changed = before.current !== row && before.current.name === row.name && before.current.states !== row.states
  useEffect(() => {
    before.current = row
  }, [row])
  return (
    <Link to={`/nodes/${encodeURIComponent(row.name)}`} className={classes.card}>
      {changed && <span key={row.states} className={classes.flash} aria-hidden="true" />}
      <span className={classes.cardHead}>
        <span className={classes.cardName}>{row.name}</span>
        {row.why_unschedulable !== null && (
          <span className={classes.tagBad}>
            <IconBan size={13} stroke={2} aria-hidden="true" /> {row.why_unschedulable}
          </span>
        )}
        {row.problems > 0 && (
          <span className={classes.tagWarn} title={count(row.problems, 'problem')}>
            <IconAlertTriangle size={13} stroke={2} aria-hidden="true" /> {row.problems}
            <span className="visually-hidden">{row.problems === 1 ? 'problem' : 'problems'}</span>
          </span>
        )}
      </span>
      <GpuStrip states={row.states.slice(0, MOST_GLYPHS)} />
      <span className="visually-hidden">: {gpuWords(row)}, </span>
      <span className={classes.cardFoot}>
        <span className="number">
          <strong>{row.free}</strong> of {row.gpus} free
        </span>
        <span className={classes.pressure}>
          {row.pressure === null ? (
            <span className="quiet">{row.sharing === 'mig' ? 'MIG devices' : row.sharing !== null ? `replicas, ${row.sharing}` : row.topology === 'reported' ? '' : `topology ${row.topology}`}</span>
          ) : (
            <>
              <span className="visually-hidden">, pressure </span>
              <Meter share={row.pressure} />
              <span className="number quiet">{percent(row.pressure)}</span>
            </>
          )}
        </span>
      </span>
    </Link>
  )
})
