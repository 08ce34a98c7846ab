import { useAnswer } from '../../api/hooks.ts'
import type { SlotsAnswer } from '../../api/types.ts'
import { Failed, Loading, Outdated } from '../../parts/States.tsx'
import classes from './what_if.module.css'

/** "unhealthy_gpus" -> "unhealthy GPUs". */
const causeWords = (cause: string): string => cause.replaceAll('_', ' ').replace(/\bgpu(s?)\b/, 'GPU$1')

/** How many more pods of each size fit now, and what the missing ones are lost to. */
export function SlotsNow() {
  const slots = useAnswer<SlotsAnswer>('/v1/slots', 30)
  const sizes = slots.data?.total.sizes ?? []
  return (
    <section className="panel" aria-labelledby="slots-now-heading">
      <h2 id="slots-now-heading">Slots now</h2>
      {slots.data === undefined ? (
        slots.isError ? <Failed what="the slots" error={slots.error} retry={() => void slots.refetch()} /> : <Loading what="the slots" />
      ) : (
        <>
          <Outdated what="The slots" answers={[slots]} />
          <p>{slots.data.summary}</p>
          <ul className={classes.slots}>
            {sizes.map((size) => {
              const most = Math.max(1, size.ideal + size.held_by_pods)
              const lost = Object.entries(size.lost).filter(([, pods]) => pods > 0)
              return (
                <li key={size.size}>
                  <span>
                    <strong className="number">{size.now.toLocaleString('en')}</strong> × {size.size} GPU{size.size === 1 ? '' : 's'}
                  </span>
                  <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                    <rect width="100" height="10" className={classes.all} />
                    <rect width={(size.ideal / most) * 100} height="10" className={classes.lost} />
                    <rect width={(size.now / most) * 100} height="10" className={classes.freeThen} />
                  </svg>
                  <span className="quiet number">
                    {size.now === size.ideal ? 'none is lost' : lost.map(([cause, pods]) => `${pods} lost to ${causeWords(cause)}`).join(', ')}
                  </span>
                </li>
              )
            })}
          </ul>
          {!slots.data.complete && <p className="quiet">Not all nodes were counted in time.</p>}
        </>
      )}
    </section>
  )
}
