import { Button, Loader } from '@mantine/core'
import { IconAlertTriangle, IconClockExclamation, IconMoodEmpty, IconPlugConnectedX } from '@tabler/icons-react'
import type { UseQueryResult } from '@tanstack/react-query'
import { Component, type ReactNode } from 'react'
import { Link } from 'react-router'

import { access, ApiError } from '../api/client.ts'
import { clock } from '../api/format.ts'
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
      {error instanceof ApiError && error.status === 403 && access.hasToken() && (
        <Button variant="default" onClick={access.forget}>
          Use another token
        </Button>
      )}
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

/** Above an answer that could not be renewed: what is shown is the last one. Nothing while the newest request was answered. */
export function Outdated({ what, answers }: { what: string; answers: readonly UseQueryResult<unknown>[] }) {
  const failed = answers.find((answer) => answer.isError && answer.data !== undefined)
  if (failed === undefined || failed.error === null) return null
  return (
    <Stale>
      {what} as of {clock(failed.dataUpdatedAt / 1000)}; the newest could not be loaded: {failed.error.message}
    </Stale>
  )
}

interface BoundaryProps {
  /** Another value, another page: the error is of the page before. */
  place: string
  children: ReactNode
}

/** Shows an error of the page itself in its place. Without it one answer that cannot be drawn leaves the whole window empty. */
export class Boundary extends Component<BoundaryProps, { error: Error | null; place: string }> {
  override state: { error: Error | null; place: string } = { error: null, place: this.props.place }

  static getDerivedStateFromError(error: unknown): { error: Error } {
    return { error: error instanceof Error ? error : new Error(String(error)) }
  }

  static getDerivedStateFromProps(props: BoundaryProps, state: { place: string }): { error: null; place: string } | null {
    return props.place === state.place ? null : { error: null, place: props.place }
  }

  override render(): ReactNode {
    const { error } = this.state
    if (error === null) return this.props.children
    return <Failed page what="this page: it cannot be drawn" error={error} retry={() => this.setState({ error: null })} />
  }
}

export function NotFound() {
  return (
    <Empty title="There is no such page" page>
      <Link to="/">Go to the cluster</Link>
    </Empty>
  )
}
