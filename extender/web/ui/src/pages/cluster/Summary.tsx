import { useMemo } from 'react'
import { Link } from 'react-router'

import { clock, count, duration, gbps } from '../../api/format.ts'
import { useAnswer, useLivePart } from '../../api/hooks.ts'
import type { ClusterAnswer, DecisionEvent, HistoryAnswer, NodeRow } from '../../api/types.ts'
import { Sparkline, StateBar, StateCounts } from '../../parts/Bars.tsx'
import { NodeLink, PodLink } from '../../parts/Links.tsx'
import classes from './cluster.module.css'
import { fits, parts } from './grouping.ts'

/** GPUs by state, pods by size that still fit, and what was decided last. */
export function Summary({ cluster, rows }: { cluster: Omit<ClusterAnswer, 'nodes'>; rows: ReadonlyMap<string, NodeRow> }) {
  const history = useAnswer<HistoryAnswer>('/v1/history', 30)
  const samples = history.data?.samples ?? []
  const byCount = useMemo(() => fits(rows), [rows])
  const { replicas, mig } = useMemo(() => parts(rows), [rows])
  const measured = samples.at(-1)?.slots ?? null
  return (
    <div className={classes.summary}>
      <section className="panel" aria-labelledby="gpus-heading">
        <h2 id="gpus-heading">
          <span className="number">{cluster.totals.gpus.toLocaleString('en')}</span> GPUs on{' '}
          <span className="number">{count(cluster.totals.nodes, 'node')}</span>
        </h2>
        <div className={classes.stack}>
          <StateBar counts={cluster.totals} />
          <StateCounts counts={cluster.totals} />
          {replicas + mig > 0 && (
            <p className="quiet number">
              Of these, {[replicas > 0 && `${count(replicas, 'is a replica', 'are replicas')} of shared GPUs`, mig > 0 && count(mig, 'is a MIG device', 'are MIG devices')].filter(Boolean).join(' and ')}
            </p>
          )}
          <p className="quiet number">
            {count(cluster.pending, 'pod')} pending · {count(cluster.assumed_pods, 'pod')} decided and not seen bound yet
            {cluster.set_aside > 0 && ` · ${count(cluster.set_aside, 'object')} set aside as not readable`}
          </p>
        </div>
      </section>
      <section className="panel" aria-labelledby="slots-heading">
        <h2 id="slots-heading">Pods that still fit on one node</h2>
        <ul className={classes.slots}>
          {[...byCount].map(([size, pods]) => (
            <li key={size}>
              <strong className="number">{(measured?.[size] ?? pods).toLocaleString('en')}</strong>
              <span className="quiet">
                × {size} GPU{size === 1 ? '' : 's'}
              </span>
            </li>
          ))}
        </ul>
        <p className="quiet">
          {measured === null ? 'By free GPUs per node alone.' : 'By links, health and memory too, counted every 30 s.'} <Link to="/what-if">What is lost, what if</Link>
        </p>
        {samples.length > 1 && (
          <>
            <Sparkline values={[...samples.map((sample) => sample.free), cluster.totals.free]} label={`Free GPUs over time, now ${cluster.totals.free}`} />
            <p className="quiet">Free GPUs over {duration(Date.now() / 1000 - samples[0]!.at_seconds)}</p>
          </>
        )}
      </section>
      <Recent />
    </div>
  )
}

function Recent() {
  const decisions = useLivePart((live) => live.decisions)
  const shown = decisions.filter((each) => each.outcome !== 'feasible').slice(0, 5)
  return (
    <section className="panel" aria-labelledby="recent-heading">
      <h2 id="recent-heading">Decided just now</h2>
      {shown.length === 0 ? (
        <p className="quiet">
          Nothing since this page was opened. <Link to="/decisions">Earlier decisions</Link>
        </p>
      ) : (
        <ul className={classes.recent}>
          {shown.map((each) => (
            <li key={each.sequence}>
              <time className="quiet number">{clock(each.at_seconds)}</time>
              <RecentText decision={each} />
              {each.node !== null && (each.gpus ?? 0) > 1 && <span className="quiet number">{gbps(each.expected_bandwidth_gbps)}</span>}
            </li>
          ))}
        </ul>
      )}
    </section>
  )
}

function RecentText({ decision }: { decision: DecisionEvent }) {
  return (
    <span className={classes.recentText}>
      <PodLink pod={decision.pod} />{' '}
      {decision.node === null ? (
        <span className={classes.refused}>✕ {decision.reason ?? decision.outcome}</span>
      ) : (
        <>
          → <NodeLink node={decision.node} />
        </>
      )}
    </span>
  )
}
