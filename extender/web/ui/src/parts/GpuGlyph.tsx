import { memo, useEffect, useRef } from 'react'

import type { GpuState, NodeRow } from '../api/types.ts'
import classes from './glyph.module.css'

/** Each state has a letter, a shape and a word: none is told by colour alone. */
export const GPU_STATES: readonly { state: GpuState; letter: string; word: string; meaning: string }[] = [
  { state: 'free', letter: 'F', word: 'free', meaning: 'a pod can get it now' },
  { state: 'taken', letter: 'T', word: 'taken', meaning: 'a pod holds it' },
  { state: 'assumed', letter: 'A', word: 'assumed', meaning: 'decided for a pod that is not seen on the node yet' },
  { state: 'excluded', letter: 'X', word: 'excluded', meaning: 'faulty, fenced, or its memory is used by a process that Kubernetes does not know' },
  { state: 'unknown', letter: '?', word: 'not known', meaning: 'held by a pod, but which GPUs is only predicted' },
]

const OF_LETTER: Record<string, GpuState> = { f: 'free', t: 'taken', a: 'assumed', x: 'excluded', '?': 'unknown' }
const LETTERS = Object.fromEntries(GPU_STATES.map(({ state, letter }) => [state, letter])) as Record<GpuState, string>
const WORDS = Object.fromEntries(GPU_STATES.map(({ state, word }) => [state, word])) as Record<GpuState, string>

export const stateWord = (state: GpuState): string => WORDS[state]

/** Where each outline starts in its 20 x 20 square, and the rest of it, relative to that. */
const SHAPES: Record<GpuState, [number, number, string]> = {
  free: [10, 1.5, 'a8.5 8.5 0 1 0 0 17a8.5 8.5 0 1 0 0-17z'],
  taken: [3.5, 1.5, 'h13a2 2 0 0 1 2 2v13a2 2 0 0 1-2 2h-13a2 2 0 0 1-2-2v-13a2 2 0 0 1 2-2z'],
  assumed: [10, 0.8, 'l9.2 9.2l-9.2 9.2l-9.2-9.2z'],
  excluded: [6.3, 1.3, 'h7.4l5 5v7.4l-5 5h-7.4l-5-5v-7.4z'],
  unknown: [10, 1.5, 'a8.5 8.5 0 1 0 0 17a8.5 8.5 0 1 0 0-17z'],
}

function outline(state: GpuState, x = 0, y = 0): string {
  const [startX, startY, rest] = SHAPES[state]
  return `M${startX + x} ${startY + y}${rest}`
}

/** The 20 x 20 drawing of a state, for use inside an <svg>. */
export function Glyph({ state, x = 0, y = 0, moved = false }: { state: GpuState; x?: number; y?: number; moved?: boolean }) {
  return (
    <g transform={`translate(${x} ${y})`}>
      <g className={`${classes.glyph} ${classes[state]} ${moved ? classes.moved : ''}`}>
        <path d={outline(state)} />
        <text x="10" y="14" textAnchor="middle">
          {LETTERS[state]}
        </text>
      </g>
    </g>
  )
}

export function GlyphIcon({ state, size = 20 }: { state: GpuState; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" className={classes.icon}>
      <Glyph state={state} />
    </svg>
  )
}

const PITCH = 24

/**
 * A node's GPUs in a row of eight, two rows for sixteen. A GPU whose state changed springs into its new shape.
 *
 * All GPUs of one state are one path and one text: thousands of nodes are scrolled past, and the time for that grows with the elements.
 */
export const GpuStrip = memo(function GpuStrip({ states, perRow = 8 }: { states: string; perRow?: number }) {
  const before = useRef(states)
  const previous = before.current
  useEffect(() => {
    before.current = states
  }, [states])
  const columns = Math.min(states.length, perRow)
  const rows = Math.ceil(states.length / perRow)
  const width = Math.max(columns * PITCH - 4, 20)
  const height = Math.max(rows * PITCH - 4, 20)
  const still = new Map<GpuState, [number, number][]>()
  const moved: { state: GpuState; x: number; y: number; position: number }[] = []
  ;[...states].forEach((letter, position) => {
    const state = OF_LETTER[letter] ?? 'unknown'
    const [x, y] = [(position % perRow) * PITCH, Math.floor(position / perRow) * PITCH]
    if (previous.length === states.length && previous[position] !== letter) moved.push({ state, x, y, position })
    else if (still.has(state)) still.get(state)!.push([x, y])
    else still.set(state, [[x, y]])
  })
  return (
    <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true" className={classes.strip}>
      {[...still].map(([state, places]) => (
        <g key={state} className={`${classes.glyph} ${classes[state]}`}>
          <path d={places.map(([x, y]) => outline(state, x, y)).join('')} />
          <text x={places.map(([x]) => x + 10).join(' ')} y={places.map(([, y]) => y + 14).join(' ')} textAnchor="middle">
            {LETTERS[state].repeat(places.length)}
          </text>
        </g>
      ))}
      {moved.map(({ state, x, y, position }) => (
        <Glyph key={`${position}${state}`} state={state} x={x} y={y} moved />
      ))}
    </svg>
  )
})

/** "4 free, 2 taken, 1 excluded": a node's GPUs in words. */
export function gpuWords(row: Pick<NodeRow, GpuState>): string {
  const parts = GPU_STATES.filter(({ state }) => row[state] > 0).map(({ state, word }) => `${row[state]} ${word}`)
  return parts.length > 0 ? parts.join(', ') : 'no GPUs'
}

export function Legend({ states = GPU_STATES.map((each) => each.state) }: { states?: readonly GpuState[] }) {
  return (
    <ul className={classes.legend} aria-label="What the shapes mean">
      {GPU_STATES.filter(({ state }) => states.includes(state)).map(({ state, word, meaning }) => (
        <li key={state} title={meaning}>
          <GlyphIcon state={state} size={16} /> {word}
        </li>
      ))}
    </ul>
  )
}
