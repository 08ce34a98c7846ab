import { IconAlertTriangle, IconCheck, IconLinkOff } from '@tabler/icons-react'

import { celsius, gib, percent } from '../../api/format.ts'
import type { GpuMemory, MachineGpu } from '../../api/types.ts'
import { GlyphIcon, stateWord } from '../../parts/GpuGlyph.tsx'
import classes from './machine.module.css'

/** What the page says about a GPU: chosen by the reader, held by the pod of the page, or predicted for it. */
export type Mark = 'chosen' | 'actual' | 'predicted' | 'both'
export type Marks = Record<number, Mark | undefined>

const MARK_WORDS: Record<Mark, string> = { chosen: 'chosen', actual: 'held by this pod', predicted: 'predicted', both: 'predicted and held' }

interface Props {
  index: number
  gpu: MachineGpu | null
  mark: Mark | undefined
  tabbable: boolean
  choose: ((gpu: number) => void) | null
  focused: (gpu: number) => void
  narrow: boolean
}

/** One GPU in the drawing: its state, pod, memory, temperature and faults. */
export function GpuBox({ index, gpu, mark, tabbable, choose, focused, narrow }: Props) {
  const names = [classes.gpu, mark !== undefined && classes[mark], gpu !== null && gpu.faults.length > 0 && classes.faulty, narrow && classes.narrow]
  const content = (
    <>
      <span className={classes.gpuHead}>
        {gpu !== null && <GlyphIcon state={gpu.state} size={18} />}
        <strong>GPU {index}</strong>
        {gpu !== null && <span className="visually-hidden">: {hiddenWords(gpu)}. </span>}
        {mark === 'chosen' && <IconCheck size={15} stroke={3} aria-hidden="true" className={classes.tick} />}
      </span>
      {mark !== undefined && mark !== 'chosen' && <span className={classes.markWord}>{MARK_WORDS[mark]}</span>}
      {gpu !== null && (mark === undefined || mark === 'chosen' || (mark === 'predicted' && !narrow)) && <PodLine gpu={gpu} />}
      {gpu !== null && <MemoryBar memory={gpu.memory} temperature={gpu.temperature_celsius} />}
      {gpu !== null && <FaultLine gpu={gpu} />}
    </>
  )
  if (choose === null) return <div className={names.filter(Boolean).join(' ')}>{content}</div>
  return (
    <button
      type="button"
      data-gpu={index}
      className={`${names.filter(Boolean).join(' ')} nopan nodrag`}
      aria-pressed={mark === 'chosen'}
      tabIndex={tabbable ? 0 : -1}
      onClick={() => choose(index)}
      onFocus={() => focused(index)}
    >
      {content}
    </button>
  )
}

function PodLine({ gpu }: { gpu: MachineGpu }) {
  const [first, ...others] = gpu.pods
  if (first === undefined) return <span className={classes.podLine}>{gpu.state === 'free' ? 'free' : gpu.state === 'taken' ? 'taken' : stateWord(gpu.state)}</span>
  const name = first.slice(first.indexOf('/') + 1)
  return (
    <span className={classes.podLine} title={gpu.pods.join(', ')}>
      {gpu.pods_are_known ? '' : '? '}
      {name}
      {others.length > 0 && ` +${others.length}`}
    </span>
  )
}

function FaultLine({ gpu }: { gpu: MachineGpu }) {
  const fault = gpu.faults[0] ?? (gpu.state === 'excluded' ? gpu.state_why : null)
  if (fault !== null && fault !== undefined) {
    return (
      <span className={classes.faultLine} title={gpu.faults.join('; ')}>
        <IconAlertTriangle size={12} stroke={2.2} aria-hidden="true" /> {fault}
      </span>
    )
  }
  if (gpu.missing_links !== null && gpu.missing_links > 0) {
    return (
      <span className={classes.faultLine}>
        <IconLinkOff size={12} stroke={2.2} aria-hidden="true" /> {gpu.missing_links} NVLinks missing
      </span>
    )
  }
  return null
}

/** Memory of known pods, of processes that Kubernetes does not know (hatched), and free. */
export function MemoryBar({ memory, temperature }: { memory: GpuMemory; temperature: number | null }) {
  const { total_bytes: total, known_pods_bytes: known, unknown_bytes: stray, used_bytes: used } = memory
  if (total === null || total === 0 || (used === null && known === null)) {
    return <span className={classes.memoryText}>{total === null ? 'memory not known' : gib(total)}</span>
  }
  const knownShare = ((known ?? used ?? 0) / total) * 100
  const strayShare = ((stray ?? 0) / total) * 100
  return (
    <>
      <svg className={classes.memory} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        <rect className={classes.memoryTrack} width="100" height="8" />
        <rect className={classes.memoryKnown} width={knownShare} height="8" />
        {strayShare > 0 && <rect className={classes.memoryStray} x={knownShare} width={strayShare} height="8" />}
      </svg>
      <span className={`number ${classes.memoryText}`}>
        <span>
          {gib(used ?? (known ?? 0) + (stray ?? 0)).replace(' GiB', '')} / {gib(total)}
        </span>
        {temperature !== null && <span>{celsius(temperature)}</span>}
      </span>
    </>
  )
}

/** What the box shows by shape, colour or hover only, as words. */
function hiddenWords(gpu: MachineGpu): string {
  const stray = gpu.memory.unknown_bytes ?? 0
  const parts = [
    stateWord(gpu.state),
    gpu.pods.length > 0 ? `${gpu.pods_are_known ? 'pod' : 'probably pod'} ${gpu.pods.join(', ')}` : null,
    gpu.utilization !== null ? `${percent(gpu.utilization)} busy` : null,
    stray > 0 ? `${gib(stray)} used by processes that Kubernetes does not know` : null,
  ]
  return parts.filter((part) => part !== null).join(', ')
}
