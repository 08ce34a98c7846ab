import { IconArrowRight, IconBulb } from '@tabler/icons-react'
import { Link, useParams } from 'react-router'

import { count, duration, gbps, gpuSet, percent } from '../../api/format.ts'
import { useAnswer, useLivePart, useTitle } from '../../api/hooks.ts'
import type { Decision, DecisionsAnswer, MachineAnswer, WhyAnswer, WhyPlacement } from '../../api/types.ts'
import { Candidates, Refused } from '../../parts/Candidates.tsx'
import { NodeLink, nodePath, PodLink } from '../../parts/Links.tsx'
import { Empty, Failed, Loading, Outdated, Stale } from '../../parts/States.tsx'
import type { Marks } from '../node/GpuBox.tsx'
import { MachineGraph } from '../node/MachineGraph.tsx'
import { MachineKey } from '../node/MachineKey.tsx'
import classes from './pod.module.css'
import { TimeLine } from './TimeLine.tsx'

const STATE_WORDS: Record<string, string> = { pending: 'Pending', running: 'Bound', terminating: 'Terminating', finished: 'Finished', new: 'Not created', unknown: 'State not known' }

/** Why a pod waits, or why it is where it is and how fast it is there. */
export default function PodPage() {
  const { namespace = '', name = '' } = useParams()
  const pod = `${namespace}/${name}`
  useTitle(pod)
  const asked = encodeURIComponent(pod)
  const lastDecision = useLivePart((live) => live.decisions.find((each) => each.pod === pod)?.sequence)
  const why = useAnswer<WhyAnswer>(`/v1/why?pod=${asked}`, 15, lastDecision)
  const decisions = useAnswer<DecisionsAnswer>(`/v1/decisions?limit=40&pod=${asked}`, 15, lastDecision)
  const history = decisions.data?.decisions ?? []
  // Filter and prioritize are two calls; the newest that ranked nodes has the scores.
  const ranked = history.find((each) => each.verb === 'prioritize' && each.nodes.length > 0)
  const filtered = history.find((each) => each.verb === 'filter')

  if (why.data === undefined) {
    if (!why.isError && decisions.isPending) return <Loading what={`pod ${pod}`} />
    if (why.isError && history.length === 0) return <Failed page what={`pod ${pod}`} error={why.error} retry={() => void why.refetch()} />
  }
  const answer = why.data
  return (
    <>
      <div className={classes.top}>
        <Link to="/pods" className={classes.back}>
          ← Pods
        </Link>
        <h1 className="name">{pod}</h1>
        {answer !== undefined && (
          <>
            <p className={classes.state}>
              <span className={`${classes.badge} ${answer.state === 'pending' ? classes.waiting : ''}`}>{STATE_WORDS[answer.state] ?? answer.state}</span>
              <span className="quiet">{answer.reason}</span>
              {answer.alike > 0 && <span className="quiet">· {count(answer.alike, 'further pod')} of the same workload wait for the same reason</span>}
            </p>
            <p className={classes.sentence}>{answer.sentence}</p>
          </>
        )}
      </div>
      <Outdated what="This pod" answers={[why, decisions]} />
      {answer === undefined && (why.error !== null ? <Stale>{why.error.message}</Stale> : <Loading what="the reason and what would help" />)}
      {answer !== undefined && !answer.complete && <Stale>The time was over before all remedies were tried: there may be more.</Stale>}
      {answer !== undefined && answer.remedies.length > 0 && <Remedies answer={answer} />}
      {answer?.placement != null && <PlacementPanel placement={answer.placement} decided={ranked ?? filtered} />}
      {answer !== undefined && answer.placement === null && answer.fits !== null && (
        <section className="panel" aria-labelledby="fits-heading">
          <h2 id="fits-heading">It fits now</h2>
          <p>
            On {count(answer.fits.nodes, 'node')}; the best is <NodeLink node={answer.fits.node} gpus={answer.fits.gpus} />, GPUs {gpuSet(answer.fits.gpus)}, {gbps(answer.fits.bandwidth_gbps)}.
          </p>
        </section>
      )}
      {answer?.reported != null && (
        <section className="panel" aria-labelledby="reported-heading">
          <h2 id="reported-heading">What {answer.reported.scheduler} reports</h2>
          <p className="name">{answer.reported.message}</p>
          <p className="quiet">
            {answer.reported.age_seconds !== null && `${duration(answer.reported.age_seconds)} ago`}
            {answer.reported.attempts > 0 && `, ${count(answer.reported.attempts, 'attempt')}`}
            {answer.reported.is_older && '. The state has changed since: it refuses nodes on which the pod fits now'}
          </p>
        </section>
      )}
      <div className={classes.columns}>
        <section className="panel" aria-labelledby="candidates-heading">
          <h2 id="candidates-heading">Candidates, best first</h2>
          {decisions.isError && history.length === 0 ? (
            <Failed what="the decisions about this pod" error={decisions.error} />
          ) : ranked !== undefined ? (
            <Candidates nodes={ranked.nodes} decided={ranked.decided} />
          ) : filtered !== undefined ? (
            <Candidates nodes={filtered.nodes} decided={filtered.decided} />
          ) : (
            <Empty title="No decision is kept about this pod">It was placed before this server started, or by another scheduler.</Empty>
          )}
        </section>
        <div className={classes.stack}>
          <section className="panel" aria-labelledby="refused-heading">
            <h2 id="refused-heading">Other nodes, by reason</h2>
            {answer !== undefined && answer.groups.length > 0 ? <Groups answer={answer} /> : filtered !== undefined ? <Refused nodes={filtered.nodes} /> : <p className="quiet">Not known.</p>}
          </section>
          <section className="panel" aria-labelledby="time-heading">
            <h2 id="time-heading">From Pending to bound</h2>
            <TimeLine decisions={history} answer={answer} />
          </section>
        </div>
      </div>
      {answer !== undefined && answer.not_checked.length + answer.unread.length > 0 && (
        <p className="quiet">Not checked: {[...answer.not_checked, ...answer.unread].join('; ')}.</p>
      )}
    </>
  )
}

function Remedies({ answer }: { answer: WhyAnswer }) {
  return (
    <section className="panel" aria-labelledby="remedies-heading">
      <h2 id="remedies-heading">What would help, cheapest first</h2>
      <ol className={classes.remedies}>
        {answer.remedies.map((remedy) => (
          <li key={`${remedy.kind} ${remedy.text}`}>
            <IconBulb size={18} stroke={1.7} aria-hidden="true" />
            <div>
              <span className="name">{remedy.text.replace(/\.?$/, '.')}</span>{' '}
              <span className="quiet">
                {remedy.fits && remedy.nodes > 0 && `It fits on ${count(remedy.nodes, 'node')} then. `}
                {!remedy.fits && 'This alone is not enough. '}
              </span>
              {remedy.node !== null && <NodeLink node={remedy.node} />}
            </div>
          </li>
        ))}
      </ol>
    </section>
  )
}

function Groups({ answer }: { answer: WhyAnswer }) {
  return (
    <ul className={classes.groups}>
      {answer.groups.map((group) => (
        <li key={group.causes.map((cause) => cause.reason).join() + group.names.join()}>
          <details open={answer.groups.length <= 3}>
            <summary>
              <strong>{group.causes.map((cause) => cause.reason).join(' and ') || 'no reason is reported'}</strong>{' '}
              <span className="quiet">{count(group.nodes, 'node')}</span>
            </summary>
            <ul>
              {group.causes.flatMap((cause) =>
                cause.details.map((detail) => (
                  <li key={cause.reason + detail} className="name">
                    {detail} <span className="quiet">({cause.by})</span>
                  </li>
                )),
              )}
            </ul>
            <p className="quiet">
              {group.names.map((node, at) => (
                <span key={node}>
                  {at > 0 && ', '}
                  <NodeLink node={node} />
                </span>
              ))}
              {group.nodes > group.names.length && group.names.length > 0 && ` and ${group.nodes - group.names.length} more`}
            </p>
          </details>
        </li>
      ))}
    </ul>
  )
}

function PlacementPanel({ placement, decided }: { placement: WhyPlacement; decided: Decision | undefined }) {
  const row = useLivePart((live) => live.rows.get(placement.node))
  const machine = useAnswer<MachineAnswer>(`/v1/nodes/${encodeURIComponent(placement.node)}/machine`, 10, row)
  const candidate = decided?.nodes.find((node) => node.node === placement.node)
  const likely = candidate === undefined ? undefined : [...candidate.predicted].sort((a, b) => b.probability - a.probability)[0]
  const marks: Marks = {}
  for (const gpu of likely?.gpus ?? []) marks[gpu] = 'predicted'
  for (const gpu of placement.gpus ?? []) marks[gpu] = marks[gpu] === undefined ? 'actual' : 'both'
  const slow = placement.actual_gbps !== null && placement.best_on_node_gbps !== null && placement.actual_gbps < 0.95 * placement.best_on_node_gbps
  return (
    <section className="panel" aria-labelledby="where-heading">
      <h2 id="where-heading">
        Where it is: <NodeLink node={placement.node} gpus={placement.gpus ?? []} />
      </h2>
      <dl className={classes.figures}>
        <div className={slow ? classes.slow : ''}>
          <dt>It gets{placement.gpus !== null && ` on ${gpuSet(placement.gpus)}`}</dt>
          <dd className="number">{gbps(placement.actual_gbps)}</dd>
        </div>
        <div>
          <dt>Predicted when decided</dt>
          <dd className="number">{gbps(placement.predicted_gbps)}</dd>
        </div>
        <div>
          <dt>Best of this node{placement.best_on_node_gpus !== null && `, ${gpuSet(placement.best_on_node_gpus)}`}</dt>
          <dd className="number">{gbps(placement.best_on_node_gbps)}</dd>
        </div>
        {placement.better !== null && (
          <div>
            <dt>
              Free now on <NodeLink node={placement.better.node} gpus={placement.better.gpus} />
            </dt>
            <dd className="number">{gbps(placement.better.bandwidth_gbps)}</dd>
          </div>
        )}
      </dl>
      {(placement.limits.length > 0 || placement.faults.length > 0) && (
        <ul className={classes.limits} aria-label="What limits it">
          {[...placement.faults, ...placement.limits].map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      )}
      {machine.data?.drawable === true && (
        <>
          <MachineGraph machine={machine.data} marks={marks} />
          <MachineKey machine={machine.data} />
          <p>
            <Link to={nodePath(placement.node, placement.gpus ?? [])} className={classes.open}>
              What limits these GPUs, on the node&apos;s page <IconArrowRight size={16} aria-hidden="true" />
            </Link>
          </p>
        </>
      )}
      {placement.neighbours.length > 0 && (
        <p className="quiet">
          Beside it:{' '}
          {placement.neighbours.map((neighbour, at) => (
            <span key={neighbour.pod}>
              {at > 0 && ', '}
              <PodLink pod={neighbour.pod} /> {neighbour.indices === null ? count(neighbour.gpus, 'GPU') : gpuSet(neighbour.indices)}
              {neighbour.busy !== null && ` (${percent(neighbour.busy)} busy)`}
            </span>
          ))}
        </p>
      )}
    </section>
  )
}
