import type { GpuState } from '../api/types.ts'
import classes from './bars.module.css'
import { GPU_STATES, GlyphIcon } from './GpuGlyph.tsx'

/** GPUs of each state as one bar. The words beside it say the same, so the bar is hidden from screen readers. */
export function StateBar({ counts, thin = false }: { counts: Record<GpuState, number>; thin?: boolean }) {
  const total = GPU_STATES.reduce((sum, { state }) => sum + counts[state], 0)
  let start = 0
  return (
    <svg className={`${classes.bar} ${thin ? classes.thin : ''}`} viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect className={classes.track} width="100" height="10" />
      {total > 0 &&
        GPU_STATES.map(({ state }) => {
          const width = (counts[state] / total) * 100
          const x = start
          start += width
          return width > 0 ? <rect key={state} className={classes[state]} x={x} width={width} height="10" /> : null
        })}
    </svg>
  )
}

/** The counts of a StateBar with their shapes and words. */
export function StateCounts({ counts, zeros = true }: { counts: Record<GpuState, number>; zeros?: boolean }) {
  return (
    <ul className={classes.counts}>
      {GPU_STATES.filter(({ state }) => counts[state] > 0 || (zeros && state !== 'unknown')).map(({ state, word, meaning }) => (
        <li key={state} title={meaning}>
          <GlyphIcon state={state} size={18} />
          <strong className="number">{counts[state].toLocaleString('en')}</strong> {word}
        </li>
      ))}
    </ul>
  )
}

/** A share 0..1 as a small bar; the caller writes the number beside it. */
export function Meter({ share }: { share: number }) {
  return (
    <svg className={classes.meter} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect className={classes.track} width="100" height="6" />
      <rect className={share > 0.85 ? classes.high : classes.value} width={Math.min(100, Math.max(0, share * 100))} height="6" />
    </svg>
  )
}

/** A line over time. `values` are evenly spaced, oldest first; null leaves a gap. */
export function Sparkline({ values, label, height = 36 }: { values: readonly (number | null)[]; label: string; height?: number }) {
  const known = values.filter((value) => value !== null)
  if (known.length < 2) return null
  const top = Math.max(...known, 1)
  const step = 100 / (values.length - 1)
  let path = ''
  let pen = 'M'
  values.forEach((value, index) => {
    if (value === null) {
      pen = 'M'
      return
    }
    path += `${pen}${(index * step).toFixed(2)} ${(30 - (value / top) * 28).toFixed(2)}`
    pen = 'L'
  })
  return (
    <svg className={classes.spark} style={{ height }} viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label={label}>
      <path className={classes.area} d={`${path}L100 30L0 30Z`} />
      <path className={classes.line} d={path} />
    </svg>
  )
}
