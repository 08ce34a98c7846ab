import { useState } from 'react'
import { Button } from '@mantine/core'

import { count, gbps, gpuSet, percent } from '../api/format.ts'
import type { Candidate } from '../api/types.ts'
import classes from './candidates.module.css'
import { NodeLink } from './Links.tsx'

const FIRST = 8

/** The parts of a score in the order of their weights; a part has the same colour and place in every bar. */
function partsOf(nodes: readonly Candidate[]): string[] {
  const weights = new Map<string, number>()
  for (const node of nodes) for (const [name, part] of Object.entries(node.scores ?? {})) weights.set(name, Math.max(weights.get(name) ?? 0, part.weight))
  return [...weights].sort((a, b) => b[1] - a[1]).map(([name]) => name)
}

/** Feasible nodes, best first: each a bar of weighted score parts, with the numbers behind it. */
export function Candidates({ nodes, decided }: { nodes: readonly Candidate[]; decided: string | null }) {
  const [all, setAll] = useState(false)
  const ranked = nodes.filter((node) => node.feasible).sort((a, b) => (b.value ?? 0) - (a.value ?? 0) || (b.expected_bandwidth_gbps ?? 0) - (a.expected_bandwidth_gbps ?? 0))
  const parts = partsOf(ranked)
  if (ranked.length === 0) return <p className="quiet">No node is feasible.</p>
  const shown = all ? ranked : ranked.slice(0, FIRST)
  return (
    <>
      {parts.length > 0 && (
        <ul className={classes.legend} aria-label="Parts of the score">
          {parts.map((part, at) => (
            <li key={part}>
              <svg width="14" height="14" aria-hidden="true">
                <rect width="14" height="14" rx="3" className={classes[`part${(at % 6) + 1}`]} />
              </svg>
              {at + 1}. {part}
            </li>
          ))}
        </ul>
      )}
      <ol className={classes.list}>
        {shown.map((node) => (
          <li key={node.node}>
            <CandidateRow node={node} parts={parts} decided={node.node === decided} />
          </li>
        ))}
      </ol>
      {ranked.length > FIRST && (
        <Button variant="default" size="compact-sm" onClick={() => setAll(!all)} aria-expanded={all}>
          {all ? 'Show the best only' : `Show all ${ranked.length}`}
        </Button>
      )}
    </>
  )
}

function CandidateRow({ node, parts, decided }: { node: Candidate; parts: readonly string[]; decided: boolean }) {
  const scores = node.scores ?? {}
  const weights = Object.values(scores).reduce((sum, part) => sum + part.weight, 0) || 1
  let start = 0
  const likely = [...node.predicted].sort((a, b) => b.probability - a.probability)[0]
  return (
    <details className={classes.row}>
      <summary>
        <span className={classes.name}>
          {decided && <span className={classes.decided}>✓ chosen</span>}
          <span className={classes.nodeName}>{node.node}</span>
        </span>
        {node.value !== null && (
          <svg className={classes.bar} viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
            <rect className={classes.track} width="100" height="10" />
            {parts.map((name, at) => {
              const part = scores[name]
              if (part === undefined) return null
              const width = (part.value * part.weight * 100) / weights
              const x = start
              start += width
              return width > 0 ? <rect key={name} className={classes[`part${(at % 6) + 1}`]} x={x} width={Math.max(0, width - 0.4)} height="10" /> : null
            })}
          </svg>
        )}
        <span className={`number ${classes.figures}`}>
          {node.value !== null && <strong>{node.value.toFixed(2)}</strong>} <span className="quiet">{gbps(node.expected_bandwidth_gbps)}</span>
        </span>
      </summary>
      <div className={classes.detail}>
        <p>
          <NodeLink node={node.node} gpus={likely?.gpus} />
          {node.score !== null && ` · score ${node.score} of 10`} · {gbps(node.worst_bandwidth_gbps)} at worst, {gbps(node.best_bandwidth_gbps)} at best
        </p>
        {parts.length > 0 && (
          <ul>
            {parts.map(
              (name, at) =>
                scores[name] !== undefined && (
                  <li key={name}>
                    {at + 1}. {name}: <span className="number">{scores[name].value.toFixed(2)} × weight {scores[name].weight}</span>
                    <span className="quiet"> {scores[name].detail}</span>
                  </li>
                ),
            )}
          </ul>
        )}
        {node.predicted.length > 0 && (
          <p className="quiet">
            Likely GPUs:{' '}
            {node.predicted
              .slice(0, 4)
              .map((set) => `${gpuSet(set.gpus)} ${percent(set.probability)}`)
              .join(', ')}
            {node.predicted.length + node.further_sets > 4 && ` and ${node.predicted.length + node.further_sets - 4} further sets`}
          </p>
        )}
        {node.notes.length > 0 && <p className="quiet">{node.notes.join('; ')}</p>}
      </div>
    </details>
  )
}

/** Refused nodes, those with one reason together. */
export function Refused({ nodes }: { nodes: readonly Candidate[] }) {
  const byReason = new Map<string, Candidate[]>()
  for (const node of nodes) {
    if (node.feasible) continue
    const reason = node.rejection?.reason ?? 'not evaluated'
    byReason.set(reason, [...(byReason.get(reason) ?? []), node])
  }
  if (byReason.size === 0) return <p className="quiet">No node was refused.</p>
  return (
    <ul className={classes.refused}>
      {[...byReason]
        .sort((a, b) => b[1].length - a[1].length)
        .map(([reason, refused]) => (
          <li key={reason}>
            <details open={byReason.size === 1 && refused.length <= 6}>
              <summary>
                <strong>{reason}</strong> <span className="quiet">{count(refused.length, 'node')}</span>
              </summary>
              <ul>
                {refused.slice(0, 50).map((node) => (
                  <li key={node.node}>
                    <NodeLink node={node.node} /> <span className="quiet name">{node.rejection?.detail}</span>
                  </li>
                ))}
                {refused.length > 50 && <li className="quiet">and {refused.length - 50} more</li>}
              </ul>
            </details>
          </li>
        ))}
    </ul>
  )
}
