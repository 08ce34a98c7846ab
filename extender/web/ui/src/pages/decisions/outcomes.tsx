import { IconCircleCheck, IconCircleX, IconClockPause, IconFilterCheck, IconFileAlert } from '@tabler/icons-react'

import type { Decision, DecisionEvent, DecisionResult } from '../../api/types.ts'
import classes from './decisions.module.css'

export const OUTCOMES: Record<DecisionResult, { word: string; meaning: string; icon: typeof IconCircleCheck }> = {
  decided: { word: 'decided', meaning: 'a node is chosen', icon: IconCircleCheck },
  feasible: { word: 'feasible', meaning: 'nodes passed the filter, none is chosen yet', icon: IconFilterCheck },
  refused: { word: 'refused', meaning: 'no node fits', icon: IconCircleX },
  invalid: { word: 'invalid', meaning: "the pod's request cannot be read", icon: IconFileAlert },
  waiting: { word: 'waiting', meaning: 'no answer yet', icon: IconClockPause },
}

export function OutcomeWord({ outcome }: { outcome: DecisionResult }) {
  const { word, meaning, icon: Icon } = OUTCOMES[outcome] ?? OUTCOMES.waiting
  return (
    <span className={`${classes.outcome} ${classes[outcome] ?? ''}`} title={meaning}>
      <Icon size={16} stroke={1.9} aria-hidden="true" /> {word}
    </span>
  )
}

/** A kept decision in the form of the live events. */
export function eventOf(decision: Decision): DecisionEvent {
  const feasible = decision.nodes.filter((node) => node.feasible)
  const chosen = decision.nodes.find((node) => node.node === decision.decided)
  const counts = new Map<string, number>()
  for (const node of decision.nodes) if (node.rejection !== null) counts.set(node.rejection.reason, (counts.get(node.rejection.reason) ?? 0) + 1)
  const reason = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null
  return {
    sequence: -1,
    id: decision.decision_id ?? decision.id,
    at_seconds: decision.at_seconds,
    verb: decision.verb,
    pod: decision.pod,
    uid: decision.uid,
    gpus: decision.demand.gpus ?? null,
    outcome: decision.result,
    node: decision.decided,
    expected_bandwidth_gbps: chosen?.expected_bandwidth_gbps ?? null,
    feasible_nodes: feasible.length,
    nodes: decision.nodes.length,
    reason: decision.error ?? decision.demand.problem ?? (feasible.length > 0 ? null : reason),
    took_seconds: decision.took_seconds,
  }
}
