import { duration } from '../../api/format.ts'
import { useAnswer } from '../../api/hooks.ts'
import type { HistoryAnswer } from '../../api/types.ts'
import { Sparkline } from '../../parts/Bars.tsx'
import { Empty, Failed, Loading } from '../../parts/States.tsx'
import classes from './what_if.module.css'

/** Slots per size and fragmentation since the server started, at most some hours. */
export function OverTime() {
  const history = useAnswer<HistoryAnswer>('/v1/history', 30)
  const samples = history.data?.samples ?? []
  const first = samples[0]
  const last = samples.at(-1)
  const sizes = Object.keys(last?.fits ?? {}).sort((a, b) => Number(a) - Number(b))
  const slotsOf = (size: string) => samples.map((sample) => (sample.slots ?? sample.fits)[size] ?? null)
  const largest = sizes.at(-1)
  // The share of free GPUs that no pod of the largest size can use: 0 = the free GPUs are whole machines.
  const fragmentation =
    largest === undefined
      ? []
      : samples.map((sample) => {
          const fits = (sample.slots ?? sample.fits)[largest]
          return sample.free === 0 || fits === undefined ? null : 1 - (fits * Number(largest)) / sample.free
        })
  const nowFragmented = fragmentation.at(-1)
  return (
    <section className="panel" aria-labelledby="time-heading">
      <h2 id="time-heading">Slots and fragmentation over time</h2>
      {history.data === undefined ? (
        history.isError ? <Failed what="the history" error={history.error} retry={() => void history.refetch()} /> : <Loading what="the history" />
      ) : samples.length < 2 || first === undefined || last === undefined ? (
        <Empty title="Not enough samples yet">A sample is taken every {history.data.every_seconds} s since the server started.</Empty>
      ) : (
        <>
          <p className="quiet">The last {duration(last.at_seconds - first.at_seconds)}</p>
          <ul className={classes.lines}>
            {sizes.map((size) => (
              <li key={size}>
                <span>
                  <strong className="number">{slotsOf(size).at(-1)}</strong> × {size} GPU{size === '1' ? '' : 's'}
                </span>
                <Sparkline values={slotsOf(size)} label={`Slots of ${size} GPUs over time, now ${slotsOf(size).at(-1)}`} height={30} />
              </li>
            ))}
            <li>
              <span>
                <strong className="number">{nowFragmented == null ? '–' : `${Math.round(nowFragmented * 100)} %`}</strong> of the free GPUs are of no use to pods of {largest}
              </span>
              <Sparkline values={fragmentation} label="Fragmentation over time" height={30} />
            </li>
          </ul>
        </>
      )}
    </section>
  )
}
