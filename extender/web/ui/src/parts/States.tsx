import { Button, Loader } from '@mantine/core'
import { IconAlertTriangle, IconClockExclamation, IconMoodEmpty, IconPlugConnectedX } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { Link } from 'react-router'

import { ApiError } from '../api/client.ts'
import classes from './states.module.css'

/** The page or panel before its first answer. */
export function Loading({ what }: { what: string }) {
  return (
    <div className={classes.state} role="status">
      <Loader size="sm" aria-hidden="true" />
      <p>Loading {what} …</p>
    </div>
  )
}

/** Nothing to show, and what would make it appear. */
export function Empty({ title, page = false, children }: { title: string; page?: boolean; children?: ReactNode }) {
  return (
    <div className={classes.state}>
      <IconMoodEmpty size={28} stroke={1.5} aria-hidden="true" />
      {page ? <h1 className={classes.title}>{title}</h1> : <p className={classes.title}>{title}</p>}
      {children !== undefined && <div className={classes.text}>{children}</div>}
    </div>
  )
}

/** `page`: it is all that the page shows, so its title is the page's heading. No answer, or an error answer: the server's sentence, and a button to try again. */
export function Failed({ what, error, page = false, retry }: { what: string; error: unknown; page?: boolean; retry?: () => void }) {
  const noAnswer = error instanceof ApiError && error.status === 0
  const title = noAnswer ? 'No connection' : error instanceof ApiError && error.status === 404 ? 'Not found' : `Could not load ${what}`
  return (
    <div className={classes.state} role="alert">
      {noAnswer ? <IconPlugConnectedX size={28} stroke={1.5} aria-hidden="true" /> : <IconAlertTriangle size={28} stroke={1.5} aria-hidden="true" />}
      {page ? <h1 className={classes.title}>{title}</h1> : <p className={classes.title}>{title}</p>}
      <div className={classes.text}>{error instanceof Error ? error.message : String(error)}</div>
      {retry !== undefined && (
        <Button variant="default" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  )
}

/** A line above data that is older than it looks. */
export function Stale({ children }: { children: ReactNode }) {
  return (
    <div className={classes.stale} role="status">
      <IconClockExclamation size={18} stroke={1.8} aria-hidden="true" />
      <span>{children}</span>
    </div>
  )
}

export function NotFound() {
  return (
    <Empty title="There is no such page" page>
      <Link to="/">Go to the cluster</Link>
    </Empty>
  )
}
