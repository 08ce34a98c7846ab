import { Button } from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import { useEffect, useRef, useState, type FormEvent } from 'react'
import { useSearchParams } from 'react-router'

import { post } from '../../api/client.ts'
import { useTitle } from '../../api/hooks.ts'
import type { WhatIfAnswer } from '../../api/types.ts'
import { Failed, Loading } from '../../parts/States.tsx'
import { bodyOf, commandOf, fromAddress, KINDS, toAddress, type Change, type Kind } from './changes.ts'
import { ChangeRow } from './ChangeRow.tsx'
import { OverTime } from './OverTime.tsx'
import { Result } from './Result.tsx'
import { SlotsNow } from './SlotsNow.tsx'
import classes from './what_if.module.css'

/** A question about another cluster than this one. Nothing is changed. */
export default function WhatIfPage() {
  useTitle('What if')
  const [params, setParams] = useSearchParams()
  const [changes, setChanges] = useState<Change[]>(() => {
    const asked = fromAddress(params)
    return asked.length > 0 ? asked : [KINDS.add.blank]
  })
  const answer = useMutation({ mutationFn: (asked: readonly Change[]) => post<WhatIfAnswer>('/v1/what-if', bodyOf(asked)) })
  const { mutate } = answer
  const opened = useRef(false)
  // A shared link is a question: it is asked at once.
  useEffect(() => {
    if (!opened.current && fromAddress(params).length > 0) mutate(fromAddress(params))
    opened.current = true
  }, [mutate, params])
  const ask = (event: FormEvent) => {
    event.preventDefault()
    setParams(toAddress(changes), { replace: true })
    mutate(changes)
  }
  const replace = (at: number, change: Change | null) => setChanges(changes.flatMap((each, place) => (place !== at ? [each] : change === null ? [] : [change])))
  return (
    <>
      <div>
        <h1>What if …</h1>
        <p className="quiet">Where the pending pods and further pods would go if the cluster were different. Nothing is changed.</p>
      </div>
      <form onSubmit={ask} className={`panel ${classes.form}`} aria-label="The question">
        <ul className={classes.changes}>
          {changes.map((change, at) => (
            <li key={`${at} ${change.kind}`}>
              <ChangeRow change={change} number={at + 1} set={(next) => replace(at, next)} remove={() => replace(at, null)} />
            </li>
          ))}
        </ul>
        {changes.length === 0 && <p className="quiet">Without a change, the answer is where the pending pods go now.</p>}
        <div className={classes.more} role="group" aria-label="Add a change">
          {(Object.keys(KINDS) as Kind[]).map((kind) => (
            <Button key={kind} size="compact-sm" variant="default" onClick={() => setChanges([...changes, KINDS[kind].blank])}>
              + {KINDS[kind].name}
            </Button>
          ))}
        </div>
        <div className={classes.ask}>
          <Button type="submit" loading={answer.isPending}>
            Ask
          </Button>
          <code className={classes.command}>{commandOf(changes)}</code>
        </div>
      </form>
      <div aria-live="polite" className={classes.answer}>
        {answer.isPending && <Loading what="the answer" />}
        {answer.isError && <Failed what="the answer" error={answer.error} />}
        {answer.data !== undefined && !answer.isPending && <Result answer={answer.data} />}
      </div>
      <div className={classes.columns}>
        <SlotsNow />
        <OverTime />
      </div>
    </>
  )
}
