import { Button, Loader } from '@mantine/core'
import type { UseQueryResult } from '@tanstack/react-query'

import { gbps, gpuSet } from '../../api/format.ts'
import type { BandwidthAnswer, MachineAnswer } from '../../api/types.ts'
import classes from './node.module.css'

interface Props {
  answer: UseQueryResult<BandwidthAnswer>
  chosen: readonly number[]
  machine: MachineAnswer
  select: (gpus: readonly number[]) => void
}

/** What the chosen GPUs reach together, what limits them, and the best GPUs of that number. */
export function Selection({ answer, chosen, machine, select }: Props) {
  const free = machine.gpus.filter((gpu) => gpu.state === 'free').map((gpu) => gpu.gpu)
  return (
    <div className={classes.selection} aria-live="polite">
      {chosen.length < 2 ? (
        <p className="quiet">
          {chosen.length === 0 ? 'Choose two or more GPUs to see how fast they work together and what limits them. ' : `GPU ${chosen[0]} is chosen: choose one more. `}
          {chosen.length === 0 && machine.gpus.length > 1 && (
            <>
              <Button size="compact-sm" variant="default" onClick={() => select(machine.gpus.map((gpu) => gpu.gpu))}>
                All {machine.gpus.length}
              </Button>{' '}
              {free.length > 1 && free.length < machine.gpus.length && (
                <Button size="compact-sm" variant="default" onClick={() => select(free)}>
                  The {free.length} free ones
                </Button>
              )}
            </>
          )}
        </p>
      ) : answer.data !== undefined ? (
        <Reached answer={answer.data} machine={machine} select={select} />
      ) : answer.isError ? (
        <p className={classes.bad}>{answer.error.message}</p>
      ) : (
        <p className="quiet">
          <Loader size="xs" aria-hidden="true" /> Computing {gpuSet(chosen)} …
        </p>
      )}
    </div>
  )
}

function Reached({ answer, machine, select }: { answer: BandwidthAnswer; machine: MachineAnswer; select: (gpus: readonly number[]) => void }) {
  const best = answer.best_of_size
  const isBest = best === null || answer.busbw_gbps === null || best.busbw_gbps === null || best.busbw_gbps <= answer.busbw_gbps
  const bySize = Object.entries(answer.gbps_by_message_size ?? {}).filter((entry): entry is [string, number] => entry[1] !== null)
  const top = Math.max(...bySize.map(([, value]) => value), 1)
  return (
    <>
      <div className={classes.figure}>
        <span className={`number ${classes.big}`}>{gbps(answer.busbw_gbps)}</span>
        <span className="quiet">all-reduce of GPUs {gpuSet(answer.gpus)}</span>
        {answer.range_gbps !== null && answer.range_gbps.length === 2 && (
          <span className="quiet number">
            between {gbps(answer.range_gbps[0])} and {gbps(answer.range_gbps[1])}
          </span>
        )}
        <Button size="compact-sm" variant="default" onClick={() => select([])}>
          Clear
        </Button>
      </div>
      <div>
        <h3>What limits them</h3>
        {answer.sentences.length === 0 && answer.bottleneck === null ? (
          <p className="quiet">Nothing slower than their own links.</p>
        ) : (
          <ul className={classes.sentences}>
            {[...new Set([answer.bottleneck, ...answer.sentences])].filter((text) => text !== null).map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        )}
        {!isBest && best !== null && (
          <p>
            <Button size="compact-sm" variant="light" onClick={() => select(best.gpus)}>
              GPUs {gpuSet(best.gpus)} reach {gbps(best.busbw_gbps)}
            </Button>
          </p>
        )}
        {isBest && <p className="quiet">No other {answer.gpus.length} of the {machine.gpus.length} GPUs are faster.</p>}
      </div>
      {bySize.length > 0 && (
        <div>
          <h3>By message size</h3>
          <table className={classes.sizes}>
            <caption className="visually-hidden">GB/s by message size</caption>
            <tbody>
              {bySize.map(([size, value]) => (
                <tr key={size}>
                  <th scope="row">{size}</th>
                  <td aria-hidden="true">
                    <svg viewBox="0 0 100 8" preserveAspectRatio="none">
                      <rect width={(value / top) * 100} height="8" />
                    </svg>
                  </td>
                  <td className="number">{gbps(value)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  )
}
