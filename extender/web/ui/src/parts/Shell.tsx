import { ActionIcon, useComputedColorScheme, useMantineColorScheme } from '@mantine/core'
import { IconMoon, IconSun } from '@tabler/icons-react'
import { useEffect, useRef, type ReactNode } from 'react'
import { NavLink, useLocation, useNavigationType } from 'react-router'

import { age, duration } from '../api/format.ts'
import { useLivePart, useNow } from '../api/hooks.ts'
import classes from './shell.module.css'
import { Stale } from './States.tsx'

const PAGES = [
  { to: '/', name: 'Cluster' },
  { to: '/pods', name: 'Pods' },
  { to: '/decisions', name: 'Decisions' },
  { to: '/what-if', name: 'What-if' },
]

/** Entry of the history -> how far its page was scrolled, in pixels. One number for each page that was visited. */
const scrolledTo = new Map<string, number>()
const RETURN_MS = 2000

/** Scrolls again while the page grows: its data may come after it is shown. Ends when the place is reached, the reader scrolls, or after two seconds. */
function scrollOnceLongEnough(place: number): () => void {
  const until = performance.now() + RETURN_MS
  let frame = 0
  const stop = () => {
    cancelAnimationFrame(frame)
    for (const event of ['wheel', 'touchmove', 'keydown']) window.removeEventListener(event, stop)
  }
  const again = () => {
    if (Math.abs(window.scrollY - place) > 1) window.scrollTo(0, place)
    else if (performance.now() > until - RETURN_MS + 300) return stop()
    if (performance.now() < until) frame = requestAnimationFrame(again)
    else stop()
  }
  for (const event of ['wheel', 'touchmove', 'keydown']) window.addEventListener(event, stop, { passive: true })
  frame = requestAnimationFrame(again)
  return stop
}

/** Header, navigation and the place of the page. */
export function Shell({ children }: { children: ReactNode }) {
  const main = useRef<HTMLElement>(null)
  const { pathname, key } = useLocation()
  const returned = useNavigationType() === 'POP'
  const entry = useRef(key)
  const first = useRef(true)
  useEffect(() => {
    const remember = () => scrolledTo.set(entry.current, window.scrollY)
    window.addEventListener('scroll', remember, { passive: true })
    return () => window.removeEventListener('scroll', remember)
  }, [])
  useEffect(() => {
    entry.current = key
  }, [key])
  // A new page starts at its top, and a screen reader or keyboard goes on from there. A page that is gone back to is where it was left.
  useEffect(() => {
    if (first.current) {
      first.current = false
      return
    }
    main.current?.focus({ preventScroll: true })
    const place = returned ? (scrolledTo.get(entry.current) ?? 0) : 0
    window.scrollTo(0, place)
    return place > 0 ? scrollOnceLongEnough(place) : undefined
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `returned` is read when the page changes
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
      {seconds !== null && <span className="number quiet"> · {age(seconds)} old</span>}
    </span>
  )
}

function Lost() {
  const connection = useLivePart((live) => live.connection)
  const problem = useLivePart((live) => live.problem)
  const shown = useLivePart((live) => live.heardAt !== null)
  const cluster = useLivePart((live) => live.cluster)
  if (connection === 'lost' && shown) {
    return <Stale>The data below is not up to date: {problem?.message} Trying again by itself.</Stale>
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
