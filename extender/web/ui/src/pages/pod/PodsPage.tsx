import { Table, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconAlertTriangle, IconClockPause, IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useQuery } from '@tanstack/react-query'

import { get } from '../../api/client.ts'
import { count, gbps, gpuSet, percent } from '../../api/format.ts'
import { useAddressText, useTitle } from '../../api/hooks.ts'
import type { PodRow, PodsAnswer } from '../../api/types.ts'
import { NodeLink, PodLink } from '../../parts/Links.tsx'
import { Empty, Failed, Loading, Outdated } from '../../parts/States.tsx'
import classes from './pod.module.css'

/** A pod that gets less than this share of what its node could give is marked as slow. */
const SLOW = 0.8

/** All pods with GPUs: pending ones first, then those that get less than their node could give. */
export default function PodsPage() {
  useTitle('Pods')
  const [search, setSearch] = useAddressText('search')
  const [asked] = useDebouncedValue(search, 150)
  const path = `/v1/pods?order=worst&limit=300${asked === '' ? '' : `&search=${encodeURIComponent(asked)}`}`
  const pods = useQuery<PodsAnswer>({
    queryKey: [path],
    queryFn: ({ signal }) => get<PodsAnswer>(path, signal),
    refetchInterval: 5000,
    placeholderData: keepPreviousData,
  })
  return (
    <>
      <h1>Pods</h1>
      <div className={classes.filters} role="search" aria-label="Pods">
        <TextInput
          aria-label="Search pods by name, namespace or node"
          placeholder="Search name, namespace, node"
          leftSection={<IconSearch size={16} stroke={1.8} aria-hidden="true" />}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
          className={classes.search}
        />
        {pods.data !== undefined && (
          <p className="quiet number" role="status">
            {pods.data.pods.length < pods.data.total ? `${pods.data.pods.length} of ${count(pods.data.total, 'pod')}` : count(pods.data.total, 'pod')}
          </p>
        )}
      </div>
      <Outdated what="The pods" answers={[pods]} />
      <p className="quiet">Pending pods first, then those that get less than their node could give.</p>
      {pods.data === undefined ? (
        pods.isError ? <Failed what="the pods" error={pods.error} retry={() => void pods.refetch()} /> : <Loading what="the pods" />
      ) : pods.data.pods.length === 0 ? (
        asked === '' ? (
          <Empty title="No pod asks for GPUs">A pod appears here once it requests nvidia.com/gpu.</Empty>
        ) : (
          <Empty title="No pod matches">Change the search above.</Empty>
        )
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls sideways must be reachable by keyboard
        <div className={`panel ${classes.scroll}`} role="region" aria-label="Pods" tabIndex={0}>
          <Table verticalSpacing={7} className="number" highlightOnHover>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Pod</Table.Th>
                <Table.Th>State</Table.Th>
                <Table.Th>Node</Table.Th>
                <Table.Th>GPUs</Table.Th>
                <Table.Th>It gets</Table.Th>
                <Table.Th>Of the node&apos;s best</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {pods.data.pods.map((row) => (
                <Row key={row.uid} row={row} />
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </>
  )
}

function Row({ row }: { row: PodRow }) {
  const share = row.busbw_gbps !== null && row.best_gbps !== null && row.best_gbps > 0 ? row.busbw_gbps / row.best_gbps : null
  return (
    <Table.Tr>
      <Table.Td>
        <PodLink pod={`${row.namespace}/${row.name}`} />
      </Table.Td>
      <Table.Td>
        {row.state === 'pending' ? (
          <span className={classes.mark}>
            <IconClockPause size={16} stroke={1.9} aria-hidden="true" /> pending
          </span>
        ) : share !== null && share < SLOW ? (
          <span className={classes.slowMark}>
            <IconAlertTriangle size={16} stroke={1.9} aria-hidden="true" /> slow
          </span>
        ) : (
          row.state
        )}
      </Table.Td>
      <Table.Td className={row.node === null ? `quiet ${classes.message}` : undefined}>
        {row.node === null ? (row.message ?? 'not scheduled yet') : <NodeLink node={row.node} gpus={row.devices ?? []} />}
      </Table.Td>
      <Table.Td>{row.devices === null ? row.gpus : `${row.gpus} ${gpuSet(row.devices)}`}</Table.Td>
      <Table.Td className="figure">{gbps(row.busbw_gbps)}</Table.Td>
      <Table.Td className="figure">
        {share === null ? '–' : percent(share)} {share !== null && share < 1 && <span className="quiet">of {gbps(row.best_gbps)}</span>}
      </Table.Td>
    </Table.Tr>
  )
}
