import { IconAlertTriangle, IconBan } from '@tabler/icons-react'
import { useMemo } from 'react'
import { Link, useParams, useSearchParams } from 'react-router'

import { duration, gib, gpuSet, shortProduct } from '../../api/format.ts'
import { useAnswer, useLivePart, useSetAddress, useTitle } from '../../api/hooks.ts'
import type { BandwidthAnswer, MachineAnswer } from '../../api/types.ts'
import { StateCounts } from '../../parts/Bars.tsx'
import { Empty, Failed, Loading, Outdated, Stale } from '../../parts/States.tsx'
import type { Marks } from './GpuBox.tsx'
import { GpuTable } from './GpuTable.tsx'
import { unbridged } from './layout.ts'
import { MachineGraph } from './MachineGraph.tsx'
import { MachineKey } from './MachineKey.tsx'
import classes from './node.module.css'
import { ReportCardPanel } from './ReportCardPanel.tsx'
import { Selection } from './Selection.tsx'

/** One machine: its graph, its GPUs, what several of them reach together, and its report card. */
export default function NodePage() {
  const { name = '' } = useParams()
  useTitle(name)
  const row = useLivePart((live) => live.rows.get(name))
  const loaded = useLivePart((live) => live.cluster !== null)
  const path = `/v1/nodes/${encodeURIComponent(name)}`
  const machine = useAnswer<MachineAnswer>(`${path}/machine`, 5, row)
  const [params] = useSearchParams()
  const setAddress = useSetAddress()
  const asked = params.get('gpus') ?? ''
  const chosen = useMemo(() => (machine.data === undefined ? [] : known(asked, machine.data)), [asked, machine.data])
  const bandwidth = useAnswer<BandwidthAnswer>(chosen.length > 1 ? `${path}/bandwidth?gpus=${chosen.join(',')}` : null, 60)
  const select = (gpus: readonly number[]) => setAddress('gpus', [...gpus].sort((a, b) => a - b).join(','))
  const toggle = (gpu: number) => {
    if (machine.data === undefined) return
    const now = known(new URLSearchParams(window.location.search).get('gpus') ?? '', machine.data)
    select(now.includes(gpu) ? now.filter((each) => each !== gpu) : [...now, gpu])
  }
  const marks: Marks = Object.fromEntries(chosen.map((gpu) => [gpu, 'chosen' as const]))

  if (machine.isError && machine.data === undefined) return <Failed page what={`node ${name}`} error={machine.error} retry={() => void machine.refetch()} />
  if (machine.data === undefined) return <Loading what={`node ${name}`} />
  const answer = machine.data
  const problems = [...answer.contradictions, ...answer.gpus.flatMap((gpu) => gpu.faults.map((fault) => `GPU ${gpu.gpu}: ${fault}`))]
  const missing = answer.edges.filter((edge) => edge.degraded !== null).map((edge) => edge.degraded!)
  const alone = unbridged(answer)
  if (alone.length > 0 && missing.length === 0) missing.push(bridgeSentence(alone, answer))
  const oldTelemetry = answer.gpus.filter((gpu) => gpu.telemetry_is_stale)
  return (
    <>
      <div className={classes.top}>
        <Link to="/" className={classes.back}>
          ← Cluster
        </Link>
        <h1 className="name">{name}</h1>
        <p className="quiet">
          {[shortProduct(answer.product), answer.fabric_detail ?? (answer.fabric === 'unknown' ? 'links unknown' : answer.fabric), row && gib(row.gpu_memory_bytes) + ' each', answer.cpu_model, row?.zone, row?.pool]
            .filter(Boolean)
            .join(' · ')}
        </p>
        {row?.why_unschedulable != null && (
          <p className={classes.bad}>
            <IconBan size={16} aria-hidden="true" /> {row.why_unschedulable}: no new pod comes here
          </p>
        )}
      </div>
      {(!loaded || row !== undefined) && <Outdated what="The machine" answers={[machine]} />}
      {loaded && row === undefined && <Stale>This node has left the cluster; what is shown is the last that was known.</Stale>}
      {answer.state_age_seconds > 20 && <Stale>The data of this node is {duration(answer.state_age_seconds)} old.</Stale>}
      {oldTelemetry.length > 0 && <Stale>Telemetry of {oldTelemetry.length === 1 ? `GPU ${oldTelemetry[0]!.gpu}` : `${oldTelemetry.length} GPUs`} is old: memory and temperature may have changed.</Stale>}
      {(problems.length > 0 || missing.length > 0) && (
        <ul className={classes.problems} aria-label="Problems of this node">
          {[...new Set([...missing, ...problems])].map((problem) => (
            <li key={problem}>
              <IconAlertTriangle size={17} stroke={1.9} aria-hidden="true" /> <span className="name">{problem}</span>
            </li>
          ))}
        </ul>
      )}
      <section className="panel" aria-labelledby="machine-heading">
        <div className={classes.machineHead}>
          <h2 id="machine-heading">The machine</h2>
          {row !== undefined && <StateCounts counts={row} zeros={false} />}
        </div>
        {answer.drawable ? (
          <>
            <MachineGraph machine={answer} marks={marks} limiting={bandwidth.data?.limiting_edges ?? []} choose={toggle} clear={() => select([])} />
            <MachineKey machine={answer} />
            <Selection answer={bandwidth} chosen={chosen} machine={answer} select={select} />
          </>
        ) : (
          <Empty title="This machine cannot be drawn">
            {answer.why_not_drawable ?? answer.topology_note} <br />
            Its GPUs are counted, and pods are placed on it, without a bandwidth.
          </Empty>
        )}
        {answer.assumed_facts.length > 0 && <p className={`quiet ${classes.assumed}`}>Assumed, because the node does not say it: {answer.assumed_facts.join('; ')}.</p>}
      </section>
      {answer.gpus.length > 0 && <GpuTable gpus={answer.gpus} />}
      <ReportCardPanel name={name} />
    </>
  )
}

/** The GPUs of the address that the machine has. */
function known(text: string, machine: MachineAnswer): number[] {
  const has = new Set(machine.gpus.map((gpu) => gpu.gpu))
  const asked = text.split(',').filter((part) => /^\d{1,3}$/.test(part))
  return [...new Set(asked.map(Number))].filter((gpu) => has.has(gpu))
}

function bridgeSentence(alone: readonly number[], machine: MachineAnswer): string {
  const links = Math.max(...machine.edges.filter((edge) => edge.kind === 'nvlink').map((edge) => edge.links ?? 0))
  const others = machine.gpus.length - alone.length
  return `GPUs ${gpuSet(alone)} have no NVLink, while the other ${others} GPUs have ${links} each: is a bridge missing?`
}
