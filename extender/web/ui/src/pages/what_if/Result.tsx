import { Table } from '@mantine/core'

import { count, gbps, gpuSet, shortProduct } from '../../api/format.ts'
import type { Capacity, WhatIfAnswer, WhatIfPlacement } from '../../api/types.ts'
import { PodLink } from '../../parts/Links.tsx'
import { Stale } from '../../parts/States.tsx'
import classes from './what_if.module.css'

const MOST_ROWS = 200

/** Where each pod goes before and after the change, and what capacity is left. */
export function Result({ answer }: { answer: WhatIfAnswer }) {
  const remarks = [...answer.notes, ...answer.not_simulated, ...answer.not_checked]
  return (
    <>
      <p className={classes.summary}>{answer.summary}</p>
      {!answer.complete && <Stale>The time was over after {count(answer.reached_pods, 'pod')}: ask about fewer.</Stale>}
      {answer.pods.length > 0 && (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls sideways must be reachable by keyboard
        <section className={`panel ${classes.scroll}`} aria-labelledby="moves-heading" tabIndex={0}>
          <h2 id="moves-heading">Where pods go</h2>
          <Table verticalSpacing={6} className="number">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Pod</Table.Th>
                <Table.Th>GPUs</Table.Th>
                <Table.Th>Now</Table.Th>
                <Table.Th>Then</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {answer.pods.slice(0, MOST_ROWS).map((pod) => (
                <Table.Tr key={pod.pod} className={pod.changes ? classes.changed : undefined}>
                  <Table.Td>
                    {pod.added ? <span className="name">{pod.pod}</span> : <PodLink pod={pod.pod} />}
                    {pod.added && <span className={classes.tag}>new</span>}
                    {pod.changes && <span className={classes.tag}>changes</span>}
                  </Table.Td>
                  <Table.Td>{pod.gpus_requested ?? '–'}</Table.Td>
                  <Table.Td>{pod.before === null ? <span className="quiet">–</span> : <Place placement={pod.before} />}</Table.Td>
                  <Table.Td>
                    <Place placement={pod.after} />
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
          {answer.pods.length > MOST_ROWS && <p className="quiet">and {answer.pods.length - MOST_ROWS} more</p>}
        </section>
      )}
      <section className="panel" aria-labelledby="capacity-heading">
        <h2 id="capacity-heading">Free GPUs, now and then</h2>
        <p className={`quiet ${classes.hint}`}>Upper bar: now. Lower bar: then.</p>
        <CapacityTable now={answer.capacity_now} then={answer.capacity_after} />
      </section>
      {remarks.length > 0 && (
        <details>
          <summary className="quiet">{count(remarks.length, 'remark')}: what this answer does not know</summary>
          <ul className={classes.remarks}>
            {[...new Set(remarks)].map((remark) => (
              <li key={remark}>{remark}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  )
}

function Place({ placement }: { placement: WhatIfPlacement }) {
  if (placement.node !== null) {
    return (
      <>
        <span className="name">{placement.node}</span> {placement.gpus !== null && <span className="quiet">{gpuSet(placement.gpus)}</span>}{' '}
        {placement.expected_bandwidth_gbps !== null && gbps(placement.expected_bandwidth_gbps)}
      </>
    )
  }
  return (
    <span className={placement.outcome === 'no node' ? classes.none : 'quiet'}>
      {placement.outcome === 'no node' && '✕ '}
      {placement.outcome}
      {placement.why !== null && <span className={`quiet ${classes.why}`}>{placement.why}</span>}
    </span>
  )
}

function CapacityTable({ now, then }: { now: readonly Capacity[]; then: readonly Capacity[] }) {
  const products = [...new Set([...now, ...then].map((row) => row.product))]
  const of = (rows: readonly Capacity[], product: string | null) => rows.find((row) => row.product === product)
  const most = Math.max(1, ...[...now, ...then].map((row) => row.gpus))
  const ordered = products
    .map((product) => ({ product, before: of(now, product), after: of(then, product) }))
    .sort((a, b) => Number(changes(b)) - Number(changes(a)) || (b.after?.gpus ?? 0) - (a.after?.gpus ?? 0))
  return (
    <ul className={classes.capacity}>
      {ordered.map(({ product, before, after }) => (
        <li key={product ?? ''}>
          <span className={classes.product}>{shortProduct(product?.replaceAll('-', ' ') ?? null)}</span>
          <span className={classes.bars} aria-hidden="true">
            <CapacityBar row={before} most={most} />
            <CapacityBar row={after} most={most} then />
          </span>
          <span className="number">
            {before?.free_gpus ?? 0} → <strong>{after?.free_gpus ?? 0}</strong>{' '}
            <span className="quiet">
              of {before?.gpus === after?.gpus ? (after?.gpus ?? 0) : `${before?.gpus ?? 0} → ${after?.gpus ?? 0}`}
              {(after?.cordoned_free_gpus ?? 0) > 0 && `, ${after!.cordoned_free_gpus} more on cordoned nodes`}
            </span>
          </span>
        </li>
      ))}
    </ul>
  )
}

const changes = ({ before, after }: { before: Capacity | undefined; after: Capacity | undefined }): boolean =>
  before?.free_gpus !== after?.free_gpus || before?.gpus !== after?.gpus

function CapacityBar({ row, most, then = false }: { row: Capacity | undefined; most: number; then?: boolean }) {
  return (
    <svg viewBox="0 0 100 8" preserveAspectRatio="none">
      <rect width={((row?.gpus ?? 0) / most) * 100} height="8" className={classes.all} />
      <rect width={((row?.free_gpus ?? 0) / most) * 100} height="8" className={then ? classes.freeThen : classes.freeNow} />
    </svg>
  )
}
