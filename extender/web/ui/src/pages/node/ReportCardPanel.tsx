import { IconAlertTriangle, IconCircleCheck, IconCircleX, IconHelpCircle } from '@tabler/icons-react'

import { useAnswer } from '../../api/hooks.ts'
import type { Check, ReportCard } from '../../api/types.ts'
import { Failed, Loading } from '../../parts/States.tsx'
import classes from './node.module.css'

const STATUS = {
  fail: { icon: IconCircleX, word: 'failed', order: 0 },
  warn: { icon: IconAlertTriangle, word: 'warning', order: 1 },
  unknown: { icon: IconHelpCircle, word: 'not known', order: 2 },
  pass: { icon: IconCircleCheck, word: 'passed', order: 3 },
}
const statusOf = (check: Check) => STATUS[check.status as keyof typeof STATUS] ?? STATUS.unknown

/** Every check with its evidence and remedy, worst first, and what a platform team asks of a node. */
export function ReportCardPanel({ name }: { name: string }) {
  const report = useAnswer<ReportCard>(`/v1/nodes/${encodeURIComponent(name)}/report`, 60)
  return (
    <div className={classes.reports}>
      <section className="panel" aria-labelledby="checks-heading">
        <h2 id="checks-heading">Report card</h2>
        {report.data === undefined ? (
          report.isError ? <Failed what="the report card" error={report.error} retry={() => void report.refetch()} /> : <Loading what="the report card" />
        ) : (
          <>
            <p className="quiet">{tally(report.data.checks)}</p>
            <ul className={classes.checks}>
              {[...report.data.checks]
                .sort((a, b) => statusOf(a).order - statusOf(b).order)
                .map((check) => {
                  const { icon: Icon, word } = statusOf(check)
                  return (
                    <li key={check.check} className={classes[check.status]}>
                      <Icon size={18} stroke={1.8} aria-hidden="true" />
                      <div>
                        <strong>{check.check}</strong> <span className="visually-hidden">{word}: </span>
                        <span className="name">{check.evidence}</span>
                        {check.remedy !== '' && check.status !== 'pass' && <div className={`quiet name ${classes.remedy}`}>{check.remedy}</div>}
                      </div>
                    </li>
                  )
                })}
            </ul>
          </>
        )}
      </section>
      {report.data !== undefined && (
        <section className="panel" aria-labelledby="answers-heading">
          <h2 id="answers-heading">What this node can do</h2>
          <dl className={classes.answers}>
            {Object.entries({ ...report.data.readiness, ...report.data.baseline }).map(([question, answer]) => (
              <div key={question}>
                <dt>{question[0]!.toUpperCase() + question.slice(1)}?</dt>
                <dd className="name">{answer}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
    </div>
  )
}

function tally(checks: readonly Check[]): string {
  const counts = Object.values(STATUS).map((status) => ({ word: status.word, n: checks.filter((check) => statusOf(check) === status).length }))
  return counts
    .filter(({ n }) => n > 0)
    .map(({ n, word }) => `${n} ${word}`)
    .join(', ')
}
