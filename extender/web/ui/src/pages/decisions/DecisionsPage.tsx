import { NativeSelect, Switch, Table, TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import { useMemo, useState } from 'react'
import { useSearchParams } from 'react-router'

import { clock, duration, gbps } from '../../api/format.ts'
import { useAddressText, useAnswer, useLivePart, useSetAddress, useTitle } from '../../api/hooks.ts'
import type { DecisionEvent, DecisionsAnswer } from '../../api/types.ts'
import { DecisionLink, NodeLink, PodLink } from '../../parts/Links.tsx'
import { Empty, Failed, Loading } from '../../parts/States.tsx'
import classes from './decisions.module.css'
import { eventOf, OUTCOMES, OutcomeWord } from './outcomes.tsx'

const MOST_ROWS = 200

/** Decisions as they are made, newest first. */
export default function DecisionsPage() {
  useTitle('Decisions')
  const arriving = useLivePart((live) => live.decisions)
  const [paused, setPaused] = useState<readonly DecisionEvent[] | null>(null)
  const earlier = useAnswer<DecisionsAnswer>('/v1/decisions?limit=100', 3600)
  const [params] = useSearchParams()
  const [search, setSearch] = useAddressText('search')
  const setAddress = useSetAddress()
  const outcome = params.get('outcome') ?? ''
  const live = paused ?? arriving
  const all = useMemo(() => merged(live, (earlier.data?.decisions ?? []).map(eventOf)), [live, earlier.data])
  const wanted = search.trim().toLowerCase()
  const shown = all.filter((each) => (outcome === '' ? each.outcome !== 'feasible' : outcome === 'all' || each.outcome === outcome) && (wanted === '' || `${each.pod} ${each.node ?? ''} ${each.reason ?? ''}`.toLowerCase().includes(wanted)))
  const waiting = paused === null ? 0 : arriving.filter((each) => !paused.includes(each)).length
  return (
    <>
      <h1>Decisions</h1>
      <div className={classes.filters} role="search" aria-label="Decisions">
        <TextInput
          aria-label="Search by pod, node or reason"
          placeholder="Search pod, node, reason"
          leftSection={<IconSearch size={16} stroke={1.8} aria-hidden="true" />}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
          className={classes.search}
        />
        <NativeSelect
          aria-label="Outcome"
          value={outcome}
          onChange={(event) => setAddress('outcome', event.currentTarget.value)}
          data={[{ value: '', label: 'Results' }, { value: 'all', label: 'Results and filter calls' }, ...Object.entries(OUTCOMES).map(([value, { word, meaning }]) => ({ value, label: `${word}: ${meaning}` }))]}
        />
        <Switch label="Live" checked={paused === null} onChange={(event) => setPaused(event.currentTarget.checked ? null : arriving)} />
        <p className="quiet number" role="status">
          {waiting > 0 ? `${waiting} new while paused` : `${Math.min(shown.length, MOST_ROWS)} shown`}
        </p>
      </div>
      {earlier.isError && all.length === 0 ? (
        <Failed what="the decisions" error={earlier.error} retry={() => void earlier.refetch()} />
      ) : earlier.isPending && all.length === 0 ? (
        <Loading what="the decisions" />
      ) : all.length === 0 ? (
        <Empty title="No decision yet">A decision appears here when kube-scheduler asks about a pod with GPUs. Does the pod name the scheduler that uses this extender?</Empty>
      ) : shown.length === 0 ? (
        <Empty title="No decision matches">Change the search or the outcome above.</Empty>
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls sideways must be reachable by keyboard
        <div className={`panel ${classes.scroll}`} role="region" aria-label="Decisions, newest first" tabIndex={0}>
          <Table verticalSpacing={7} className="number" highlightOnHover>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Time</Table.Th>
                <Table.Th>Pod</Table.Th>
                <Table.Th className={classes.minor}>GPUs</Table.Th>
                <Table.Th>Outcome</Table.Th>
                <Table.Th>Node or reason</Table.Th>
                <Table.Th>Expected</Table.Th>
                <Table.Th className={classes.minor}>Feasible</Table.Th>
                <Table.Th className={classes.minor}>Took</Table.Th>
                <Table.Th>
                  <span className="visually-hidden">Link</span>
                </Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {shown.slice(0, MOST_ROWS).map((each) => (
                <Table.Tr key={keyOf(each)} className={each.sequence >= 0 ? classes.arrived : undefined}>
                  <Table.Td>{clock(each.at_seconds)}</Table.Td>
                  <Table.Td>
                    <PodLink pod={each.pod} />
                  </Table.Td>
                  <Table.Td className={classes.minor}>{each.gpus ?? '–'}</Table.Td>
                  <Table.Td>
                    <OutcomeWord outcome={each.outcome} />
                  </Table.Td>
                  <Table.Td className="name">{each.node !== null ? <NodeLink node={each.node} /> : each.reason}</Table.Td>
                  <Table.Td className="figure">{(each.gpus ?? 0) > 1 ? gbps(each.expected_bandwidth_gbps) : '–'}</Table.Td>
                  <Table.Td className={`figure ${classes.minor}`}>
                    {each.feasible_nodes} of {each.nodes}
                  </Table.Td>
                  <Table.Td className={`figure ${classes.minor}`}>{duration(each.took_seconds)}</Table.Td>
                  <Table.Td>{each.id !== null && <DecisionLink id={each.id}>open</DecisionLink>}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </>
  )
}

const keyOf = (each: DecisionEvent): string => `${each.uid} ${each.verb} ${each.at_seconds.toFixed(3)}`

/** Live and kept decisions, each once, newest first. */
function merged(live: readonly DecisionEvent[], kept: readonly DecisionEvent[]): DecisionEvent[] {
  const byKey = new Map<string, DecisionEvent>()
  for (const each of [...live, ...kept]) {
    const key = keyOf(each)
    const known = byKey.get(key)
    if (known === undefined) byKey.set(key, each)
    else if (known.id === null && each.id !== null) byKey.set(key, { ...known, id: each.id })
  }
  return [...byKey.values()].sort((a, b) => b.at_seconds - a.at_seconds)
}
