import '@xyflow/react/dist/base.css'

import { useElementSize } from '@mantine/hooks'
import { BaseEdge, EdgeLabelRenderer, Handle, Position, ReactFlow, ReactFlowProvider, type Edge, type EdgeProps, type Node, type NodeProps } from '@xyflow/react'
import { createContext, useContext, useMemo, useRef, useState, type KeyboardEvent } from 'react'

import { gbps, gpuSet } from '../../api/format.ts'
import type { MachineAnswer, MachineEdge, MachineGpu } from '../../api/types.ts'
import { GpuBox, type Marks } from './GpuBox.tsx'
import { layoutOf, MISSING_BRIDGE, type Direction, type Drawn, type Placed } from './layout.ts'
import classes from './machine.module.css'

/** The smallest scale at which the text of a GPU can be read. */
const SMALLEST = 0.74
const SCROLLBAR = 16

type PartNode = Node<{ part: Placed; gpu: MachineGpu | null; direction: Direction }, 'gpu' | 'holder'>
type LinkEdge = Edge<{ line: Drawn; direction: Direction }, 'link'>

interface Choosing {
  marks: Marks
  /** The GPU that the Tab key reaches; the arrow keys move it. */
  current: number | null
  limiting: readonly string[]
  touched: readonly string[]
  choose: ((gpu: number) => void) | null
  moveTo: (gpu: number) => void
}

const ChoosingContext = createContext<Choosing>({ marks: {}, current: null, limiting: [], touched: [], choose: null, moveTo: () => {} })

interface Props {
  machine: MachineAnswer
  marks: Marks
  limiting?: readonly string[]
  /** Called with a GPU's index when it is chosen or no longer chosen; without it the drawing only shows. */
  choose?: (gpu: number) => void
  clear?: () => void
}

/** The machine, drawn from its graph. Arrow keys move between GPUs, Space chooses one, Escape clears the choice. */
export function MachineGraph({ machine, marks, limiting = [], choose, clear }: Props) {
  const { ref, width } = useElementSize()
  const frame = useRef<HTMLDivElement>(null)
  const order = useMemo(() => [...machine.vertices].filter((v) => v.kind === 'gpu').sort((a, b) => a.column! - b.column!).map((v) => v.gpu!), [machine.vertices])
  const [current, setCurrent] = useState<number | null>(null)
  const direction: Direction = width > 0 && width < 640 ? 'down' : 'across'
  // The layout depends on the hardware only, so telemetry does not move anything.
  const shape = JSON.stringify([machine.vertices, machine.edges])
  // eslint-disable-next-line react-hooks/exhaustive-deps
  const layout = useMemo(() => layoutOf(machine, direction), [shape, direction])
  const byGpu = new Map(machine.gpus.map((gpu) => [gpu.gpu, gpu]))
  const nodes: PartNode[] = layout.parts.map((part) => ({
    id: part.vertex.id,
    type: part.vertex.kind === 'gpu' ? 'gpu' : 'holder',
    position: { x: part.x, y: part.y },
    width: part.width,
    height: part.height,
    data: { part, gpu: part.vertex.gpu === null ? null : (byGpu.get(part.vertex.gpu) ?? null), direction },
    draggable: false,
    selectable: false,
    focusable: false,
  }))
  const edges: LinkEdge[] = layout.lines.map((line) => ({
    id: line.edge.id,
    source: line.edge.a,
    target: line.edge.b,
    type: 'link',
    data: { line, direction },
    focusable: false,
    selectable: false,
    zIndex: line.edge.kind === 'nvlink' ? 0 : 1,
  }))
  const chosen = new Set(Object.entries(marks).filter(([, mark]) => mark === 'chosen' || mark === 'actual').map(([gpu]) => Number(gpu)))
  const touched = machine.edges
    .filter((edge) => edge.kind === 'nvlink' && chosen.size > 1 && ends(edge, machine).every((gpu) => gpu === null || chosen.has(gpu)))
    .map((edge) => edge.id)
  const moveTo = (gpu: number) => {
    setCurrent(gpu)
    frame.current?.querySelector<HTMLElement>(`[data-gpu="${gpu}"]`)?.focus()
  }
  const keys = (event: KeyboardEvent) => {
    const at = order.indexOf(current ?? order[0] ?? 0)
    const next: Record<string, number> = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 }
    if (event.key === 'Escape') clear?.()
    const to = next[event.key]
    if (to === undefined) return
    event.preventDefault()
    const gpu = order[Math.max(0, Math.min(order.length - 1, to))]
    if (gpu !== undefined) moveTo(gpu)
  }
  // A machine that is too wide to be read, such as one of sixteen GPUs, is scrolled sideways.
  const scale = width > 0 ? Math.max(direction === 'across' ? SMALLEST : 0, Math.min(1.12, (width - 4) / Math.max(1, layout.width))) : 1
  const needed = Math.ceil(layout.width * scale + 4)
  const isScrolled = needed > width + 1
  const drawnWidth = isScrolled ? needed : Math.floor(width)
  const height = Math.ceil(layout.height * scale + 8)
  return (
    <ChoosingContext.Provider value={{ marks, current: current ?? order[0] ?? null, limiting, touched, choose: choose ?? null, moveTo: setCurrent }}>
      <div ref={frame}>
        {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions -- the GPUs in it take the focus and pass their keys up */}
        <div
          ref={ref}
          className={classes.frame}
          style={{ height: isScrolled ? height + SCROLLBAR : height }}
          role={choose === undefined ? 'img' : 'group'}
          aria-label={summaryOf(machine, choose !== undefined, chosen)}
          onKeyDown={choose === undefined ? undefined : keys}
          tabIndex={choose === undefined && isScrolled ? 0 : undefined}
        >
          {width > 0 && (
            <div style={{ width: drawnWidth, height }}>
              <ReactFlowProvider>
              <ReactFlow
                key={`${direction} ${Math.round(width)}`}
                nodes={nodes}
                edges={edges}
                nodeTypes={NODE_TYPES}
                edgeTypes={EDGE_TYPES}
                defaultViewport={{ x: (drawnWidth - layout.width * scale) / 2, y: 2, zoom: scale }}
                minZoom={0.1}
                nodesDraggable={false}
                nodesConnectable={false}
                nodesFocusable={false}
                edgesFocusable={false}
                elementsSelectable={false}
                panOnDrag={false}
                panOnScroll={false}
                zoomOnScroll={false}
                zoomOnPinch={false}
                zoomOnDoubleClick={false}
                preventScrolling={false}
                disableKeyboardA11y
                proOptions={{ hideAttribution: true }}
                role="presentation"
              />
            </ReactFlowProvider>
            </div>
          )}
        </div>
      </div>
    </ChoosingContext.Provider>
  )
}

function ends(edge: MachineEdge, machine: MachineAnswer): (number | null)[] {
  return [edge.a, edge.b].map((id) => machine.vertices.find((vertex) => vertex.id === id)?.gpu ?? null)
}

/** The drawing in words, for screen readers. */
function summaryOf(machine: MachineAnswer, choosing: boolean, chosen: ReadonlySet<number>): string {
  const counts = (kind: string) => machine.vertices.filter((vertex) => vertex.kind === kind).length
  const parts = [`${counts('socket')} NUMA zones`, `${counts('switch')} PCIe switches`, `${counts('gpu')} GPUs`, machine.fabric_detail ?? machine.fabric]
  const links = machine.edges.filter((edge) => edge.kind === 'nvlink' && edge.links !== null)
  const linkText = links.length > 0 && links.length <= 8 ? ` NVLinks: ${links.map((edge) => `${edge.a} to ${edge.b}, ${edge.links}`).join('; ')}.` : ''
  const how = choosing ? ' Arrow keys move between GPUs, Space chooses.' : chosen.size > 0 ? ` Marked: GPUs ${gpuSet([...chosen].sort((a, b) => a - b))}.` : ''
  return `The machine: ${parts.join(', ')}.${linkText}${how}`
}

function GpuPart({ data }: NodeProps<PartNode>) {
  const { marks, current, choose, moveTo } = useContext(ChoosingContext)
  const index = data.part.vertex.gpu!
  return (
    <>
      <Ends />
      <GpuBox index={index} gpu={data.gpu} mark={marks[index]} tabbable={current === index} choose={choose} focused={moveTo} narrow={data.direction === 'down'} />
    </>
  )
}

function HolderPart({ data }: NodeProps<PartNode>) {
  const { vertex, nics } = data.part
  return (
    <>
      <Ends />
      <div className={`${classes.holder} ${classes[vertex.kind] ?? ''} ${data.direction === 'down' ? classes.sideways : ''}`}>
        <span>{vertex.label}</span>
        {nics.length > 0 && <span className={classes.nics}>{nics.join(' ')}</span>}
      </div>
    </>
  )
}

/** React Flow joins edges at handles; the paths here come from the layout, so the handles are not seen. */
function Ends() {
  return (
    <>
      <Handle type="source" position={Position.Bottom} className={classes.handle} isConnectable={false} />
      <Handle type="target" position={Position.Top} className={classes.handle} isConnectable={false} />
    </>
  )
}

function LinkLine({ data, id }: EdgeProps<LinkEdge>) {
  const { limiting, touched } = useContext(ChoosingContext)
  if (data === undefined) return null
  const { edge, path, labelX, labelY, strokeWidth, isAlike } = data.line
  const limits = limiting.includes(id)
  const shown = limits || touched.includes(id) || edge.degraded !== null
  const dim = !limits && touched.length > 0 && edge.kind === 'nvlink' && !touched.includes(id)
  const names = [classes.line, classes[edge.kind], limits && classes.limits, dim && classes.dim, edge.degraded !== null && classes.degraded, touched.includes(id) && classes.touched]
  return (
    <>
      <BaseEdge path={path} className={names.filter(Boolean).join(' ')} style={{ strokeWidth: limits ? strokeWidth + 2 : strokeWidth }} />
      {(shown || (edge.kind === 'socket' && edge.gbps !== null && !isAlike)) && (
        <EdgeLabelRenderer>
          <div
            className={`${classes.label} ${limits ? classes.labelLimits : ''} ${edge.degraded !== null && !limits ? classes.labelDegraded : ''}`}
            style={{ transform: `translate(-50%, -50%) translate(${labelX}px, ${labelY}px)` }}
          >
            {limits && '▲ '}
            {edge.degraded !== null && !limits && '! '}
            {edge.links !== null && `NV${edge.links} `}
            {id === MISSING_BRIDGE ? edge.degraded : gbps(edge.gbps)}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  )
}

const NODE_TYPES = { gpu: GpuPart, holder: HolderPart }
const EDGE_TYPES = { link: LinkLine }
