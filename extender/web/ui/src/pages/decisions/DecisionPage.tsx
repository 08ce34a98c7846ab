import { Button } from '@mantine/core'
import { IconCheck, IconLink } from '@tabler/icons-react'
import { useState } from 'react'
import { Link, useParams } from 'react-router'

import { ApiError } from '../../api/client.ts'
import { age, clock, count, duration, gbps, gib, gpuSet } from '../../api/format.ts'
import { useAnswer, useTitle } from '../../api/hooks.ts'
import type { Decision, DecisionsAnswer, MachineAnswer } from '../../api/types.ts'
import { Candidates, Refused } from '../../parts/Candidates.tsx'
import { NodeLink, PodLink } from '../../parts/Links.tsx'
import { Failed, Loading } from '../../parts/States.tsx'
import type { Marks } from '../node/GpuBox.tsx'
import { MachineGraph } from '../node/MachineGraph.tsx'
import { MachineKey } from '../node/MachineKey.tsx'
import classes from './decisions.module.css'
import { eventOf, OutcomeWord } from './outcomes.tsx'

/** One decision, with a link to share. */
export default function DecisionPage() {
  const { id = '' } = useParams()
  useTitle(`Decision ${id}`)
  const asked = useAnswer<Decision>(`/v1/decisions/${encodeURIComponent(id)}`, 60)
  // A server without this route still has the newest decisions.
  const missing = asked.error instanceof ApiError && asked.error.status === 404
  const recent = useAnswer<DecisionsAnswer>(missing ? '/v1/decisions?limit=200' : null, 60)
  const decision = asked.data ?? recent.data?.decisions.find((each) => each.id === id || each.decision_id === id)
  if (decision === undefined) {
    if (asked.isPending || (missing && recent.isPending)) return <Loading what="the decision" />
    const gone = new ApiError(404, `No decision ${id} is kept: the server keeps the newest ones, and forgets them when it restarts.`)
    return <Failed page what="the decision" error={missing ? gone : asked.error} retry={() => void asked.refetch()} />
  }
  const { demand } = decision
  return (
    <>
      <div className={classes.top}>
        <Link to="/decisions" className={classes.back}>
          ← Decisions
        </Link>
        <h1 className="name">
          <PodLink pod={decision.pod} />
        </h1>
        <p className={classes.line}>
          <OutcomeWord outcome={eventOf(decision).outcome} />
          {decision.decided !== null && (
            <span>
              for <NodeLink node={decision.decided} />
            </span>
          )}
          <span className="quiet number">
            {new Date(decision.at_seconds * 1000).toLocaleDateString('en-GB')} {clock(decision.at_seconds)} · {decision.verb}
            {decision.took_seconds !== null && ` · ${duration(decision.took_seconds)}`} · state {age(decision.state_age_seconds)} old
          </span>
          <ShareButton />
        </p>
        {decision.error !== null && <p className="name">{decision.error}</p>}
        <p className="quiet name">
          {demand.gpus === undefined ? `The request cannot be read: ${demand.problem ?? 'no reason is given'}` : `Asked for ${count(demand.gpus, 'GPU')}`}
          {demand.min_busbw_gbps != null && `, at least ${gbps(demand.min_busbw_gbps)}`}
          {demand.min_gpu_memory_bytes != null && `, at least ${gib(demand.min_gpu_memory_bytes)} each`}
          {decision.warnings.length > 0 && `. ${decision.warnings.join('; ')}`}
        </p>
      </div>
      {decision.decided !== null && <Drawn decision={decision} node={decision.decided} />}
      <div className={classes.columns}>
        <section className="panel" aria-labelledby="candidates-heading">
          <h2 id="candidates-heading">Candidates, best first</h2>
          <Candidates nodes={decision.nodes} decided={decision.decided} />
        </section>
        <section className="panel" aria-labelledby="refused-heading">
          <h2 id="refused-heading">Refused nodes, by reason</h2>
          <Refused nodes={decision.nodes} />
        </section>
      </div>
    </>
  )
}

function Drawn({ decision, node }: { decision: Decision; node: string }) {
  const machine = useAnswer<MachineAnswer>(`/v1/nodes/${encodeURIComponent(node)}/machine`, 30)
  const candidate = decision.nodes.find((each) => each.node === node)
  const likely = [...(candidate?.predicted ?? [])].sort((a, b) => b.probability - a.probability)[0]
  const outcome = decision.outcome
  const marks: Marks = {}
  for (const gpu of likely?.gpus ?? []) marks[gpu] = 'predicted'
  for (const gpu of outcome?.gpus ?? []) marks[gpu] = marks[gpu] === undefined ? 'actual' : 'both'
  return (
    <section className="panel" aria-labelledby="drawn-heading">
      <h2 id="drawn-heading">Predicted and actual GPUs</h2>
      <p>
        {likely !== undefined && `Most likely GPUs ${gpuSet(likely.gpus)}, ${gbps(candidate?.expected_bandwidth_gbps)} expected over all sets. `}
        {outcome !== null
          ? `It got GPUs ${gpuSet(outcome.gpus)}, ${gbps(outcome.bandwidth_gbps)}${outcome.in_support ? '' : ', which was not among the predicted sets'}.`
          : 'Which GPUs it got is not known yet.'}
      </p>
      {machine.data?.drawable === true && (
        <>
          <MachineGraph machine={machine.data} marks={marks} />
          <MachineKey machine={machine.data} />
        </>
      )}
    </section>
  )
}

function ShareButton() {
  const [copied, setCopied] = useState(false)
  if (navigator.clipboard === undefined) return null // without TLS there is no clipboard; the address bar has the link
  return (
    <Button
      size="compact-sm"
      variant="default"
      leftSection={copied ? <IconCheck size={15} aria-hidden="true" /> : <IconLink size={15} aria-hidden="true" />}
      onClick={() => void navigator.clipboard.writeText(window.location.href).then(() => setCopied(true))}
    >
      <span aria-live="polite">{copied ? 'Link copied' : 'Copy the link'}</span>
    </Button>
  )
}
