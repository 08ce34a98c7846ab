/** The server's answers, as far as the pages read them. Unknown is null. */

export type GpuState = 'free' | 'taken' | 'assumed' | 'excluded' | 'unknown'

/** One node of /v1/cluster. */
export interface NodeRow {
  name: string
  product: string | null
  gpu_memory_bytes: number | null
  fabric: string
  fabric_detail: string | null
  gpus: number
  free: number
  taken: number
  assumed: number
  excluded: number
  unknown: number
  /** One letter per GPU: f, t, a, x or ?. */
  states: string
  /** False: only the numbers of letters mean something, not their places. */
  states_by_position: boolean
  /** 0 idle .. 1; null = no fresh telemetry. */
  pressure: number | null
  pods: number
  problems: number
  topology: string
  topology_note: string | null
  sharing: string | null
  zone: string | null
  pool: string | null
  schedulable: boolean
  why_unschedulable: string | null
}

export interface Totals {
  nodes: number
  gpus: number
  free: number
  taken: number
  assumed: number
  excluded: number
  unknown: number
}

export interface ClusterAnswer {
  stream: string
  sequence: number
  revision: number
  at_seconds: number
  state_age_seconds: number
  synced: boolean
  missing: string[]
  cluster: string | null
  version: string
  totals: Totals
  pending: number
  assumed_pods: number
  set_aside: number
  nodes_without_gpus: number
  nodes: NodeRow[]
}

export interface NodesEvent {
  stream: string
  sequence: number
  revision: number
  at_seconds: number
  state_age_seconds: number
  changed: NodeRow[]
  removed: string[]
  totals: Totals
  pending: number
  assumed_pods: number
  set_aside: number
}

export type DecisionResult = 'decided' | 'feasible' | 'refused' | 'invalid' | 'waiting'

export interface DecisionEvent {
  sequence: number
  id: string | null
  at_seconds: number
  verb: string
  pod: string
  uid: string
  gpus: number | null
  outcome: DecisionResult
  node: string | null
  expected_bandwidth_gbps: number | null
  feasible_nodes: number
  nodes: number
  reason: string | null
  took_seconds: number | null
}

export interface Vertex {
  id: string
  kind: 'socket' | 'switch' | 'gpu' | 'nvswitch' | 'nic'
  label: string
  parent: string | null
  gpu: number | null
  column: number | null
}

export interface MachineEdge {
  id: string
  kind: 'pcie' | 'nvlink' | 'socket'
  a: string
  b: string
  links: number | null
  gbps: number | null
  degraded: string | null
}

export interface GpuMemory {
  total_bytes: number | null
  used_bytes: number | null
  known_pods_bytes: number | null
  unknown_bytes: number | null
  free_bytes: number | null
}

export interface MachineGpu {
  gpu: number
  vertex: string
  uuid: string | null
  product: string | null
  state: GpuState
  state_why: string | null
  pods: string[]
  pods_are_known: boolean
  memory: GpuMemory
  temperature_celsius: number | null
  utilization: number | null
  power_watts: number | null
  telemetry_age_seconds: number | null
  telemetry_is_stale: boolean
  faults: string[]
  suspicions: string[]
  numa_node: number | null
  pci_bus_id: string | null
  missing_links: number | null
}

export interface MachineAnswer {
  node: string
  revision: number
  at_seconds: number
  state_age_seconds: number
  product: string | null
  fabric: string
  fabric_detail: string | null
  cpu_model: string | null
  topology: string
  topology_note: string | null
  drawable: boolean
  why_not_drawable: string | null
  assumed_facts: string[]
  contradictions: string[]
  vertices: Vertex[]
  edges: MachineEdge[]
  gpus: MachineGpu[]
}

export interface BandwidthAnswer {
  node: string
  gpus: number[]
  busbw_gbps: number | null
  effective_gbps: number | null
  effective_gbps_by_messages: Record<string, number | null> | null
  gbps_by_message_size: Record<string, number | null> | null
  bottleneck: string | null
  sentences: string[]
  limiting_edges: string[]
  range_gbps: number[] | null
  best_of_size: { gpus: number[]; busbw_gbps: number | null } | null
}

export interface HistorySample {
  at_seconds: number
  nodes: number
  gpus: number
  free: number
  taken: number
  assumed: number
  excluded: number
  unknown: number
  pending: number
  fits: Record<string, number>
  slots: Record<string, number> | null
}

export interface HistoryAnswer {
  every_seconds: number
  kept_seconds: number
  samples: HistorySample[]
}

export interface ScorePart {
  value: number
  weight: number
  detail: string
}

export interface PredictedSet {
  gpus: number[]
  probability: number
  bandwidth_gbps: number | null
}

export interface Refusal {
  reason: string
  detail: string
  remedy?: string | null
}

export interface Candidate {
  node: string
  feasible: boolean
  score: number | null
  value: number | null
  rejection: Refusal | null
  scores: Record<string, ScorePart> | null
  best_bandwidth_gbps: number | null
  expected_bandwidth_gbps: number | null
  worst_bandwidth_gbps: number | null
  predicted: PredictedSet[]
  further_sets: number
  notes: string[]
}

/** What a pod asks for. `problem`: why its request cannot be read; the other fields are absent then. */
export interface Demand {
  problem?: string
  gpus?: number
  gpus_per_container?: number[]
  min_gpu_memory_bytes?: number | null
  min_busbw_gbps?: number | null
}

/** The GPUs that the pod got, beside what was predicted. */
export interface Outcome {
  node: string
  gpus: number[]
  bandwidth_gbps: number | null
  expected_bandwidth_gbps: number | null
  in_support: boolean
}

export interface Decision {
  /** Of every decision, where the server gives one; `id` is that of the placement record. */
  decision_id?: string
  id: string | null
  at_seconds: number
  verb: string
  result: DecisionResult
  pod: string
  uid: string
  demand: Demand
  took_seconds: number | null
  nodes: Candidate[]
  outcome: Outcome | null
  warnings: string[]
  decided: string | null
  error: string | null
  state_age_seconds: number
}

export interface Check {
  check: string
  status: string
  evidence: string
  remedy: string
}

export interface ReportCard {
  node: string
  status: string
  checks: Check[]
  baseline: Record<string, string>
  readiness: Record<string, string>
}

export interface Remedy {
  kind: string
  text: string
  cause: string
  fits: boolean
  cost: number
  nodes: number
  node: string | null
  bandwidth_gbps: number | null
}

export interface WhyGroup {
  nodes: number
  names: string[]
  causes: { by: string; reason: string; details: string[]; resolvable: boolean }[]
}

export interface WhyCandidate {
  node: string
  nodes: number
  gpus: number[]
  probability: number | null
  bandwidth_gbps: number | null
}

export interface WhyPlacement {
  node: string
  gpus: number[] | null
  predicted_gbps: number | null
  actual_gbps: number | null
  best_on_node_gbps: number | null
  best_on_node_gpus: number[] | null
  limits: string[]
  faults: string[]
  neighbours: { pod: string; gpus: number; indices: number[] | null; busy: number | null }[]
  better: WhyCandidate | null
  gain_gbps: number | null
}

export interface WhyAnswer {
  pod: string
  uid: string | null
  state: string
  reason: string
  sentence: string
  remedies: Remedy[]
  groups: WhyGroup[]
  fits: WhyCandidate | null
  reported: { message: string; age_seconds: number | null; attempts: number; scheduler: string; is_older: boolean } | null
  placement: WhyPlacement | null
  not_checked: string[]
  complete: boolean
  unread: string[]
  alike: number
}

export interface DecisionsAnswer {
  decisions: Decision[]
  truncated?: boolean
}

export interface WhatIfPlacement {
  outcome: string
  node: string | null
  gpus: number[] | null
  probability: number | null
  bandwidth_gbps: number | null
  expected_bandwidth_gbps: number | null
  equally_good_nodes: number
  feasible_nodes: number
  refusals: { reason: string; by: string; nodes: number }[]
  why: string | null
}

export interface Capacity {
  product: string | null
  nodes: number
  gpus: number
  free_gpus: number
  cordoned_free_gpus: number
  whole_nodes_free: number
}

export interface WhatIfAnswer {
  summary: string
  pods: { pod: string; added: boolean; priority: number; gpus_requested: number | null; before: WhatIfPlacement | null; after: WhatIfPlacement; changes: boolean }[]
  capacity_now: Capacity[]
  capacity_after: Capacity[]
  notes: string[]
  not_simulated: string[]
  not_checked: string[]
  complete: boolean
  reached_pods: number
}

export interface SlotSize {
  size: number
  now: number
  ideal: number
  held_by_pods: number
  lost: Record<string, number>
}

export interface SlotRow {
  name: string
  nodes: number
  gpus: number
  idle_gpus: number
  sizes: SlotSize[]
}

export interface SlotsAnswer {
  summary: string
  total: SlotRow
  rows: SlotRow[]
  complete: boolean
  not_checked: string[]
}

export interface PodRow {
  namespace: string
  name: string
  uid: string
  state: string
  gpus: number
  node: string | null
  devices: number[] | null
  busbw_gbps: number | null
  best_gbps: number | null
  expected_gbps: number | null
  floor_gbps: number | null
  message: string | null
}

export interface PodsAnswer {
  pods: PodRow[]
  total: number
  state_age_seconds: number
}
