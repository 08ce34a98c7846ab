import type { MachineAnswer } from '../../api/types.ts'
import { Legend } from '../../parts/GpuGlyph.tsx'
import { linkWidth } from './layout.ts'
import classes from './machine.module.css'

/** What the lines and shapes of the drawing mean, only for those that it has. */
export function MachineKey({ machine }: { machine: MachineAnswer }) {
  const links = [...new Set(machine.edges.filter((edge) => edge.kind === 'nvlink' && edge.links !== null).map((edge) => edge.links!))].sort((a, b) => a - b)
  return (
    <div className={classes.key}>
      <Legend states={[...new Set(machine.gpus.map((gpu) => gpu.state))]} />
      <ul className={classes.lineKey} aria-label="What the lines mean">
        {links.map((count) => (
          <li key={count}>
            <svg width="26" height="10" aria-hidden="true">
              <path d="M0 5H26" className={`${classes.line} ${classes.nvlink}`} strokeWidth={linkWidth(count)} />
            </svg>
            {count === 1 ? '1 NVLink' : `${count} NVLinks`}
          </li>
        ))}
        <li>
          <svg width="26" height="10" aria-hidden="true">
            <path d="M0 5H26" className={`${classes.line} ${classes.pcie}`} strokeWidth="1.6" />
          </svg>
          PCIe
        </li>
        {machine.gpus.some((gpu) => (gpu.memory.unknown_bytes ?? 0) > 0) && (
          <li>
            <svg width="26" height="8" aria-hidden="true">
              <rect width="26" height="8" className={classes.memoryStray} />
            </svg>
            memory of unknown processes
          </li>
        )}
      </ul>
    </div>
  )
}
