import { clock, count, duration, gbps, gpuSet } from '../../api/format.ts'
import type { Decision, WhyAnswer } from '../../api/types.ts'
import { DecisionLink, NodeLink } from '../../parts/Links.tsx'
import classes from './pod.module.css'

interface Step {
  key: string
  at: number | null
  word: string
  decision: Decision | null
  repeated: number
}

/** Attempts with the same result after each other are one step. */
function stepsOf(decisions: readonly Decision[]): Step[] {
  const steps: Step[] = []
  for (const decision of [...decisions].sort((a, b) => a.at_seconds - b.at_seconds)) {
    const feasible = decision.nodes.filter((node) => node.feasible).length
    const word =
      decision.error !== null
        ? `waits: ${decision.error}`
        : decision.verb === 'filter'
          ? feasible > 0
            ? `${count(feasible, 'node')} of ${decision.nodes.length} feasible`
            : `no node of ${decision.nodes.length}: ${mostFrequent(decision)}`
          : decision.decided !== null
            ? `${decision.verb}: chosen`
            : decision.verb
    const last = steps.at(-1)
    if (last !== undefined && last.word === word && last.decision?.decided === decision.decided) {
      last.repeated += 1
      last.decision = decision
    } else {
      steps.push({ key: `${decision.at_seconds} ${decision.verb}`, at: decision.at_seconds, word, decision, repeated: 1 })
    }
  }
  return steps
}

function mostFrequent(decision: Decision): string {
  const counts = new Map<string, number>()
  for (const node of decision.nodes) if (node.rejection !== null) counts.set(node.rejection.reason, (counts.get(node.rejection.reason) ?? 0) + 1)
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'no reason kept'
}

const idOf = (decision: Decision | null): string | null => decision?.decision_id ?? decision?.id ?? null

/** What happened to the pod, in order, as far as this server saw it. */
export function TimeLine({ decisions, answer }: { decisions: readonly Decision[]; answer: WhyAnswer | undefined }) {
  const steps = stepsOf(decisions)
  const outcome = decisions.find((decision) => decision.outcome !== null)?.outcome ?? null
  const first = steps[0]?.at ?? null
  const gpus = outcome?.gpus ?? answer?.placement?.gpus ?? null
  const node = outcome?.node ?? answer?.placement?.node ?? null
  if (steps.length === 0 && node === null) return <p className="quiet">No step is known yet.</p>
  return (
    <ol className={classes.timeline}>
      {steps.map((step) => (
        <li key={step.key}>
          <span className="quiet number">
            {step.at !== null && clock(step.at)}
            {step.at !== null && first !== null && step.at > first && ` (+${duration(step.at - first)})`}
          </span>
          <div>
            {step.decision?.decided != null ? (
              <>
                <strong>decided</strong> for <NodeLink node={step.decision.decided} />{' '}
                {gbps(step.decision.nodes.find((each) => each.node === step.decision!.decided)?.expected_bandwidth_gbps)} expected
              </>
            ) : (
              step.word
            )}
            {step.repeated > 1 && <span className="quiet"> ({step.repeated} times)</span>}{' '}
            {idOf(step.decision) !== null && <DecisionLink id={idOf(step.decision)!} />}
          </div>
        </li>
      ))}
      {node !== null && (
        <li className={classes.done}>
          <span className="quiet">{answer?.state === 'terminating' ? 'terminating' : 'now'}</span>
          <div>
            <strong>bound</strong> to <NodeLink node={node} />
            {gpus !== null && gpus.length > 0 && `, GPUs ${gpuSet(gpus)}`}
            {outcome !== null && `, ${gbps(outcome.bandwidth_gbps)}`}
            {outcome !== null && !outcome.in_support && <span className={classes.slow}> (not among the predicted sets)</span>}
          </div>
        </li>
      )}
    </ol>
  )
}
