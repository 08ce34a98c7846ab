/**
 * Where the parts of a machine are drawn. Pure, and given by the machine's own levels: sockets, then switches, then GPUs in
 * their order, then NVLinks. `u` runs along the GPUs and `v` from the sockets to the NVLinks; a wide window has u to the right
 * and v down, a narrow one the other way round.
 */

import type { MachineAnswer, MachineEdge, Vertex } from '../../api/types.ts'

export type Direction = 'across' | 'down'

export interface Placed {
  vertex: Vertex
  x: number
  y: number
  width: number
  height: number
  /** Names of the network adapters that hang on this part. */
  nics: string[]
}

export interface Drawn {
  edge: MachineEdge
  /** An SVG path. */
  path: string
  /** Where a label stands. */
  labelX: number
  labelY: number
  strokeWidth: number
  /** Its figure is that of another line beside it: it is written only where this one limits. */
  isAlike: boolean
}

export interface Layout {
  parts: Placed[]
  lines: Drawn[]
  width: number
  height: number
}

interface Sizes {
  gpuAlong: number
  gpuDeep: number
  gap: number
  slab: number
  between: number
}

const SIZES: Record<Direction, Sizes> = {
  across: { gpuAlong: 134, gpuDeep: 116, gap: 16, slab: 34, between: 30 },
  down: { gpuAlong: 96, gpuDeep: 164, gap: 12, slab: 26, between: 18 },
}

export const MISSING_BRIDGE = 'missing bridge'

/** How far the link of two sockets with one socket between them passes above them, and how much further for each more between. */
const SOCKET_ARC = 14

/** Half of the width that a label may need: it must not leave the drawing. */
const LABEL_HALF = 36

interface Box {
  vertex: Vertex
  u: number
  v: number
  along: number
  deep: number
}

/** Stroke width of NVLinks: a bundle of 12 is clearly wider than one link. */
export const linkWidth = (links: number | null): number => (links === null ? 1.5 : Math.min(9, 1.2 + links * 0.42))

export function layoutOf(machine: MachineAnswer, direction: Direction): Layout {
  const sizes = SIZES[direction]
  const vertices = new Map(machine.vertices.map((vertex) => [vertex.id, vertex]))
  const gpus = machine.vertices.filter((vertex) => vertex.kind === 'gpu').sort((a, b) => (a.column ?? 0) - (b.column ?? 0))
  const boxes = new Map<string, Box>()

  // The levels: a part is one deeper than its parent; all GPUs are on the level below the deepest parent.
  const depthOf = (vertex: Vertex | undefined, bound = 8): number =>
    vertex === undefined || vertex.parent === null || bound === 0 ? 0 : 1 + depthOf(vertices.get(vertex.parent), bound - 1)
  const holders = machine.vertices.filter((vertex) => vertex.kind === 'socket' || vertex.kind === 'switch')
  const levels = holders.length === 0 ? 0 : Math.max(...holders.map((vertex) => depthOf(vertex))) + 1
  const roots = holders.filter((vertex) => depthOf(vertex) === 0)
  // Links between sockets that are no neighbours pass above the sockets between them.
  const spans = machine.edges.filter((edge) => edge.kind === 'socket').map((edge) => socketsApart(edge, roots, gpus, vertices))
  const above = spans.some((span) => span > 1) ? Math.max(...spans) * SOCKET_ARC + 10 : 0
  const levelV = (level: number): number => above + level * (sizes.slab + sizes.between)

  const gpuV = levelV(levels)
  const breaks = columnBreaks(gpus, vertices, sizes.gap)
  gpus.forEach((vertex, place) => {
    boxes.set(vertex.id, { vertex, u: place * (sizes.gpuAlong + sizes.gap) + breaks[place]!, v: gpuV, along: sizes.gpuAlong, deep: sizes.gpuDeep })
  })

  // A holder spans the GPUs under it; one without GPUs (with network adapters only) is not drawn.
  for (const vertex of holders) {
    const under = gpus.filter((gpu) => ancestors(gpu, vertices).includes(vertex.id)).map((gpu) => boxes.get(gpu.id)!)
    if (under.length === 0) continue
    const start = Math.min(...under.map((box) => box.u))
    const end = Math.max(...under.map((box) => box.u + box.along))
    boxes.set(vertex.id, { vertex, u: start, v: levelV(depthOf(vertex)), along: end - start, deep: sizes.slab })
  }

  // Two GPUs without a link where all others have one: the place of the missing bridge is drawn too.
  const alone = unbridged(machine)
  const ghosts: MachineEdge[] =
    alone.length === 2
      ? [{ id: MISSING_BRIDGE, kind: 'nvlink', a: `GPU ${alone[0]}`, b: `GPU ${alone[1]}`, links: null, gbps: null, degraded: 'no bridge' }]
      : []
  const edges = [...machine.edges, ...ghosts]
  const arcs = edges.filter((edge) => edge.kind === 'nvlink' && isGpu(edge.a, vertices) && isGpu(edge.b, vertices))
  const longest = Math.max(0, ...arcs.map((edge) => Math.abs(place(edge.a, gpus) - place(edge.b, gpus))))
  const arcDepth = arcs.length === 0 ? 0 : 26 + longest * (direction === 'across' ? 17 : 13)
  const bottom = gpuV + sizes.gpuDeep
  const end = Math.max(0, ...[...boxes.values()].map((box) => box.u + box.along))
  const fabrics = machine.vertices.filter((vertex) => vertex.kind === 'nvswitch')
  fabrics.forEach((vertex, place) => {
    boxes.set(vertex.id, { vertex, u: (end / fabrics.length) * place, v: bottom + 56 + arcDepth, along: end / fabrics.length, deep: sizes.slab })
  })
  const deepest = Math.max(bottom + (arcs.length > 0 ? arcDepth + 8 : 0), ...[...boxes.values()].map((box) => box.v + box.deep))

  const toXY = (u: number, v: number): [number, number] => (direction === 'across' ? [u, v] : [v, u])
  const ports = portsOf(edges, gpus, boxes)
  const socketGbps = edges.filter((edge) => edge.kind === 'socket').map((edge) => edge.gbps)
  const lines: Drawn[] = []
  for (const edge of edges) {
    const a = boxes.get(edge.a)
    const b = boxes.get(edge.b)
    if (a === undefined || b === undefined) continue
    lines.push(drawn(edge, a, b, ports, toXY, direction, gpus, [...boxes.values()], socketGbps))
  }
  const parts = [...boxes.values()].map((box): Placed => {
    const [x, y] = toXY(box.u, box.v)
    const [width, height] = toXY(box.along, box.deep)
    const nics = machine.vertices.filter((vertex) => vertex.kind === 'nic' && vertex.parent === box.vertex.id).map((vertex) => vertex.label)
    return { vertex: box.vertex, x, y, width, height, nics }
  })
  const [width, height] = toXY(end, deepest)
  for (const line of lines) line.labelX = Math.max(LABEL_HALF, Math.min(width - LABEL_HALF, line.labelX))
  return { parts, lines, width, height }
}

/** How many places apart the two sockets of a link are drawn; 0 where one of them is not. */
function socketsApart(edge: MachineEdge, roots: readonly Vertex[], gpus: readonly Vertex[], vertices: Map<string, Vertex>): number {
  const order = [...new Set(gpus.map((gpu) => ancestors(gpu, vertices).at(-1)))].filter((id) => roots.some((root) => root.id === id))
  const [a, b] = [order.indexOf(edge.a), order.indexOf(edge.b)]
  return a < 0 || b < 0 ? 0 : Math.abs(a - b)
}

/** Extra space before each GPU: a little where another switch begins, more where another socket does. */
function columnBreaks(gpus: readonly Vertex[], vertices: Map<string, Vertex>, gap: number): number[] {
  let extra = 0
  return gpus.map((gpu, place) => {
    const before = gpus[place - 1]
    if (before !== undefined) {
      const [mine, other] = [ancestors(gpu, vertices), ancestors(before, vertices)]
      if (mine.at(-1) !== other.at(-1)) extra += gap * 2
      else if (mine[0] !== other[0]) extra += gap * 0.75
    }
    return extra
  })
}

/** A vertex's parents, nearest first. */
function ancestors(vertex: Vertex, vertices: Map<string, Vertex>): string[] {
  const found: string[] = []
  let parent = vertex.parent
  while (parent !== null && !found.includes(parent)) {
    found.push(parent)
    parent = vertices.get(parent)?.parent ?? null
  }
  return found
}

const isGpu = (id: string, vertices: Map<string, Vertex>): boolean => vertices.get(id)?.kind === 'gpu'
const place = (id: string, gpus: readonly Vertex[]): number => gpus.findIndex((gpu) => gpu.id === id)

/** "edge end" -> u: the NVLinks of a GPU leave it side by side, in the order of their other ends, so that they do not cross at the port. */
function portsOf(edges: readonly MachineEdge[], gpus: readonly Vertex[], boxes: Map<string, Box>): Map<string, number> {
  const ports = new Map<string, number>()
  for (const gpu of gpus) {
    const box = boxes.get(gpu.id)!
    const mine = edges
      .filter((edge) => edge.kind === 'nvlink' && (edge.a === gpu.id || edge.b === gpu.id))
      .map((edge) => ({ edge, other: boxes.get(edge.a === gpu.id ? edge.b : edge.a)?.u ?? 0 }))
      .sort((x, y) => angle(x.other, box.u) - angle(y.other, box.u))
    const step = Math.min(16, (box.along - 20) / Math.max(1, mine.length))
    mine.forEach(({ edge }, at) => ports.set(`${edge.id} ${gpu.id}`, box.u + box.along / 2 + (at - (mine.length - 1) / 2) * step))
  }
  return ports
}

/**
 * Where a link to `other` leaves a GPU at `own`, as a number to sort by: links to the left before links to the right. On each side
 * the far end is nearer to the middle of the GPU, so that arcs nest and do not cross at the port.
 */
const angle = (other: number, own: number): number => (other === own ? 0 : 1 / (other - own))

function drawn(
  edge: MachineEdge,
  a: Box,
  b: Box,
  ports: Map<string, number>,
  toXY: (u: number, v: number) => [number, number],
  direction: Direction,
  gpus: readonly Vertex[],
  level: readonly Box[],
  socketGbps: readonly (number | null)[],
): Drawn {
  const at = (u: number, v: number): string => toXY(Math.round(u * 10) / 10, Math.round(v * 10) / 10).join(' ')
  const strokeWidth = edge.kind === 'nvlink' ? linkWidth(edge.links) : edge.kind === 'socket' ? 3 : 1.6
  const finish = (path: string, u: number, v: number, isAlike = false): Drawn => {
    const [labelX, labelY] = toXY(u, v)
    return { edge, path, labelX, labelY, strokeWidth, isAlike }
  }
  if (edge.kind === 'nvlink' && a.vertex.kind === 'gpu' && b.vertex.kind === 'gpu') {
    const [from, to] = [ports.get(`${edge.id} ${a.vertex.id}`)!, ports.get(`${edge.id} ${b.vertex.id}`)!]
    const v = a.v + a.deep
    const apart = Math.abs(place(edge.a, gpus) - place(edge.b, gpus))
    const depth = (26 + apart * (direction === 'across' ? 17 : 13)) * 1.33
    return finish(`M${at(from, v)}C${at(from, v + depth)} ${at(to, v + depth)} ${at(to, v)}`, (from + to) / 2, v + depth * 0.75)
  }
  if (a.v === b.v) {
    const [left, right] = a.u < b.u ? [a, b] : [b, a]
    const between = level.filter((box) => box.v === a.v && box.u > left.u && box.u < right.u).length
    if (between > 0) {
      // Arcs to the left leave a socket at a place of their own, so that those of one socket are told from each other.
      const [from, to] = [left.u + left.along * (0.5 + 0.08 * between), right.u + right.along * (0.5 - 0.08 * between)]
      const height = (between + 1) * SOCKET_ARC
      const path = `M${at(from, left.v)}C${at(from, left.v - height * 1.33)} ${at(to, right.v - height * 1.33)} ${at(to, right.v)}`
      return finish(path, (from + to) / 2, left.v - height, socketGbps.every((gbps) => gbps === edge.gbps))
    }
    const v = left.v + left.deep / 2
    return finish(`M${at(left.u + left.along, v)}L${at(right.u, v)}`, (left.u + left.along + right.u) / 2, v)
  }
  const [upper, lower] = a.v < b.v ? [a, b] : [b, a]
  // The line leaves the smaller of the two at its middle: the larger one spans it.
  const small = upper.along <= lower.along ? upper : lower
  const u = edge.kind === 'nvlink' ? (ports.get(`${edge.id} ${small.vertex.id}`) ?? small.u + small.along / 2) : small.u + small.along / 2
  return finish(`M${at(u, upper.v + upper.deep)}L${at(u, lower.v)}`, u, (upper.v + upper.deep + lower.v) / 2)
}

/**
 * GPUs without any NVLink on a machine whose other GPUs have direct NVLinks: a card without a bridge works, so it is no fault by itself,
 * but it costs bandwidth.
 */
export function unbridged(machine: MachineAnswer): number[] {
  const direct = machine.edges.filter((edge) => edge.kind === 'nvlink' && edge.a !== 'NVSwitch' && edge.b !== 'NVSwitch')
  const joined = new Set(direct.flatMap((edge) => [edge.a, edge.b]))
  if (joined.size === 0) return []
  return machine.vertices.filter((vertex) => vertex.kind === 'gpu' && !joined.has(vertex.id)).map((vertex) => vertex.gpu!)
}
