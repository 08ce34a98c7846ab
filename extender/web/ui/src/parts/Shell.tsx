import { ActionIcon, useComputedColorScheme, useMantineColorScheme } from '@mantine/core'
import { IconMoon, IconSun } from '@tabler/icons-react'
import { useEffect, useRef, type ReactNode } from 'react'
import { NavLink, useLocation } from 'react-router'

import { duration } from '../api/format.ts'
import { useLivePart, useNow } from '../api/hooks.ts'
import classes from './shell.module.css'
import { Stale } from './States.tsx'

const PAGES = [
  { to: '/', name: 'Cluster' },
  { to: '/pods', name: 'Pods' },
  { to: '/decisions', name: 'Decisions' },
  { to: '/what-if', name: 'What-if' },
]

/** Header, navigation and the place of the page. */
export function Shell({ children }: { children: ReactNode }) {
  const main = useRef<HTMLElement>(null)
  const { pathname } = useLocation()
  const first = useRef(true)
  // A new page starts at its top, and a screen reader or keyboard goes on from there.
  useEffect(() => {
    if (first.current) {
      first.current = false
      return
    }
    window.scrollTo(0, 0)
    main.current?.focus({ preventScroll: true })
  }, [pathname])
  return (
    <>
      <a className={classes.skip} href="#main">
        Skip to the content
      </a>
      <header className={classes.header}>
        <NavLink to="/" className={classes.brand} aria-label="Fabricwise, the cluster">
          <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" />
            <path className={classes.tiles} d="M8.500 8.500h5.500v5.500H8.500zM18 8.500h5.500v5.500H18zM8.500 18h5.500v5.500H8.500zM18 18h5.500v5.500H18z" />
            <path className={classes.links} d="M14 11.250h4M14 20.750h4M11.250 14v4M20.750 14v4" />
          </svg>
          <span>Fabricwise</span>
        </NavLink>
        <nav aria-label="Pages" className={classes.nav}>
          {PAGES.map(({ to, name }) => (
            <NavLink key={to} to={to} end={to === '/'}>
              {name}
            </NavLink>
          ))}
        </nav>
        <div className={classes.right}>
          <ClusterName />
          <Age />
          <SchemeButton />
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1} className={classes.main}>
        <Lost />
        {children}
      </main>
      <Announcer />
    </>
  )
}

function ClusterName() {
  const name = useLivePart((live) => live.cluster?.cluster ?? null)
  return name === null ? null : <span className={classes.cluster}>{name}</span>
}

/** How old the data on the page is, always visible. */
function Age() {
  const now = useNow()
  const connection = useLivePart((live) => live.connection)
  const heardAt = useLivePart((live) => live.heardAt)
  const stateAge = useLivePart((live) => live.cluster?.state_age_seconds ?? 0)
  const seconds = heardAt === null ? null : Math.max(0, (now - heardAt) / 1000) + stateAge
  const old = connection === 'lost' || (seconds !== null && seconds > 20)
  const word = connection === 'live' ? (old ? 'Old data' : 'Live') : connection === 'lost' ? 'Not connected' : 'Connecting'
  return (
    <span className={`${classes.age} ${old ? classes.old : ''}`}>
      <span className={classes.dot} aria-hidden="true" />
      {word}
      {seconds !== null && <span className="number quiet"> · {duration(Math.floor(seconds)).replace('0 ms', '0 s')} old</span>}
    </span>
  )
}

function Lost() {
  const connection = useLivePart((live) => live.connection)
  const problem = useLivePart((live) => live.problem)
  const shown = useLivePart((live) => live.heardAt !== null)
  const cluster = useLivePart((live) => live.cluster)
  if (connection === 'lost' && shown) {
    return <Stale>The data below is not up to date: {problem} Trying again by itself.</Stale>
  }
  if (cluster !== null && !cluster.synced) {
    return <Stale>Not everything is listed yet{cluster.missing?.length > 0 ? `: ${cluster.missing.join(', ')}` : ''}. The pages fill up by themselves.</Stale>
  }
  if (cluster !== null && cluster.state_age_seconds > 20) {
    return <Stale>The API server has not been heard for {duration(cluster.state_age_seconds)}: this is the cluster as it was then.</Stale>
  }
  return null
}

function SchemeButton() {
  const { setColorScheme } = useMantineColorScheme()
  const scheme = useComputedColorScheme('light')
  const other = scheme === 'dark' ? 'light' : 'dark'
  return (
    <ActionIcon variant="default" size="lg" aria-label={`Use the ${other} colours`} onClick={() => setColorScheme(other)}>
      {scheme === 'dark' ? <IconSun size={18} stroke={1.8} /> : <IconMoon size={18} stroke={1.8} />}
    </ActionIcon>
  )
}

/** Says changes of the connection and of the cluster to screen readers, without moving the focus. */
function Announcer() {
  const connection = useLivePart((live) => live.connection)
  const change = useLivePart((live) => live.lastChange)
  return (
    <div aria-live="polite" className="visually-hidden" data-testid="announcer">
      {connection === 'lost' ? 'The connection is lost.' : change}
    </div>
  )
}
