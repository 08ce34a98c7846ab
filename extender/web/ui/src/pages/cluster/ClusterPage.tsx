import { NativeSelect, TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import { useDeferredValue, useMemo } from 'react'
import { useSearchParams } from 'react-router'

import { count, productKey } from '../../api/format.ts'
import { useAddressText, useLivePart, useSetAddress, useTitle } from '../../api/hooks.ts'
import { Empty, Failed, Loading } from '../../parts/States.tsx'
import classes from './cluster.module.css'
import { grouped, SORTS, STATE_FILTERS, type Choice } from './grouping.ts'
import { NodeList } from './NodeList.tsx'
import { Summary } from './Summary.tsx'

/** All nodes, live. What is searched, filtered and sorted by is in the address, so that it can be shared. */
export function ClusterPage() {
  useTitle('')
  const cluster = useLivePart((live) => live.cluster)
  const rows = useLivePart((live) => live.rows)
  const connection = useLivePart((live) => live.connection)
  const problem = useLivePart((live) => live.problem)
  const [params] = useSearchParams()
  const [search, setSearch] = useAddressText('search')
  const setAddress = useSetAddress()
  const of = (name: string) => params.get(name) ?? ''
  const choice: Choice = { search, product: of('product'), fabric: of('fabric'), state: of('state'), sort: of('sort') || 'name' }
  const change = (name: keyof Choice, value: string) => setAddress(name, name === 'sort' && value === 'name' ? '' : value)
  const deferred = useDeferredValue(JSON.stringify(choice))
  // Rows that arrive are drawn after what the user does: a key or click does not wait for them.
  const shownRows = useDeferredValue(rows)
  const groups = useMemo(() => grouped(shownRows, JSON.parse(deferred) as Choice), [shownRows, deferred])
  const products = useMemo(() => distinct([...rows.values()].map((row) => productKey(row.product))), [rows])
  const fabrics = useMemo(() => distinct([...rows.values()].map((row) => row.fabric)), [rows])
  if (cluster === null) return connection === 'lost' ? <Failed page what="the cluster" error={problem} /> : <Loading what="the cluster" />
  const shown = groups.reduce((sum, group) => sum + group.rows.length, 0)
  return (
    <>
      <h1 className="visually-hidden">Cluster</h1>
      <Summary cluster={cluster} rows={rows} />
      <div className={classes.toolbar} role="search" aria-label="Nodes">
        <TextInput
          aria-label="Search nodes by name, product, pool or zone"
          placeholder="Search name, product, pool, zone"
          leftSection={<IconSearch size={16} stroke={1.8} aria-hidden="true" />}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
          className={classes.search}
        />
        <NativeSelect
          aria-label="Product"
          value={choice.product}
          onChange={(event) => change('product', event.currentTarget.value)}
          data={[{ value: '', label: 'All products' }, ...products]}
        />
        <NativeSelect
          aria-label="Fabric"
          value={choice.fabric}
          onChange={(event) => change('fabric', event.currentTarget.value)}
          data={[{ value: '', label: 'All fabrics' }, ...fabrics]}
        />
        <NativeSelect
          aria-label="State"
          value={choice.state}
          onChange={(event) => change('state', event.currentTarget.value)}
          data={[{ value: '', label: 'All states' }, ...Object.entries(STATE_FILTERS).map(([value, { name }]) => ({ value, label: name }))]}
        />
        <NativeSelect
          aria-label="Sort by"
          value={choice.sort}
          onChange={(event) => change('sort', event.currentTarget.value)}
          data={Object.entries(SORTS).map(([value, { name }]) => ({ value, label: `Sort: ${name}` }))}
        />
        <p className="quiet number" role="status">
          {shown === rows.size ? count(shown, 'node') : `${shown.toLocaleString('en')} of ${count(rows.size, 'node')}`}
        </p>
      </div>
      {rows.size === 0 ? (
        <Empty title="No node has GPUs">
          {cluster.nodes_without_gpus > 0 ? `${count(cluster.nodes_without_gpus, 'node')} without GPUs. ` : ''}
          A node appears here once it offers nvidia.com/gpu: is the device plugin running?
        </Empty>
      ) : shown === 0 ? (
        <Empty title="No node matches">Change the search or the filters above.</Empty>
      ) : (
        <NodeList groups={groups} />
      )}
    </>
  )
}

const distinct = (values: readonly (string | null)[]): string[] => [...new Set(values.filter((value) => value !== null))].sort()
