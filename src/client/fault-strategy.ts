/**
 * Which broker groups to leave alone for a while: RocketMQ's latency fault strategy (LatencyFaultToleranceImpl and
 * MQFaultStrategy). The producer reports every attempt, the detector every probe; the queue choice asks.
 *
 * Time comes in as an argument; nothing here reads a clock or calls anybody. Two changes against RocketMQ: a group
 * that was set aside for its latency comes back only after a probe found it quick again (else it would get traffic
 * at the end of each period just to be found slow again), and a new leader ends the isolation of its group at once.
 */
import type { FaultTableName } from './types.ts'

/** From this latency on, the group is not available for that long; both in milliseconds. */
export interface FaultLevel {
  readonly latencyMs: number
  readonly unavailableMs: number
}

export const faultTables: Readonly<Record<FaultTableName, readonly FaultLevel[]>> = {
  '5.x': table([50, 100, 550, 1800, 3000, 5000, 15_000], [0, 0, 2_000, 5_000, 6_000, 10_000, 30_000]),
  '4.9': table([50, 100, 550, 1000, 2000, 3000, 15_000], [0, 0, 30_000, 60_000, 120_000, 180_000, 600_000]),
}

/** Latency that a failed attempt counts as. */
export const isolationLatencyMs: Readonly<Record<FaultTableName, number>> = { '5.x': 10_000, '4.9': 30_000 }

export interface FaultItem {
  readonly latencyMs: number
  /** Available again from then on, monotonic milliseconds; only a new leader moves it back. */
  readonly availableFromMs: number
  readonly reachable: boolean
  /** Set aside for its latency: a quick probe must come before the next message. */
  readonly suspended: boolean
}

export interface FaultReport {
  readonly latencyMs: number
  /** The attempt failed: counts as `isolationLatencyMs` whatever it took. */
  readonly isolation: boolean
  readonly reachable: boolean
}

/** How long a group stays away after an attempt of this latency: scanned from the top, as RocketMQ does. */
export function unavailableMs(name: FaultTableName, latencyMs: number): number {
  const levels = faultTables[name]
  for (let index = levels.length - 1; index >= 0; index--) {
    const level = levels[index]
    if (level && latencyMs >= level.latencyMs) return level.unavailableMs
  }
  return 0
}

/** RocketMQ's updateFaultItem as a function: the item after one more attempt. */
export function updateFaultItem(
  item: FaultItem | undefined,
  report: FaultReport,
  options: { readonly table: FaultTableName; readonly nowMs: number; readonly detector: boolean },
): FaultItem {
  const latencyMs = report.isolation ? isolationLatencyMs[options.table] : report.latencyMs
  const awayMs = unavailableMs(options.table, latencyMs)
  return {
    latencyMs: report.latencyMs,
    availableFromMs: Math.max(item?.availableFromMs ?? 0, awayMs > 0 ? options.nowMs + awayMs : 0),
    reachable: report.reachable,
    suspended: awayMs > 0 ? options.detector : (item?.suspended ?? false),
  }
}

/** The item after a probe: a slow or failed one keeps the group away, a quick one lets it back when its time is up. */
export function updateByProbe(
  item: FaultItem,
  probe: { readonly latencyMs: number; readonly reachable: boolean },
  name: FaultTableName,
): FaultItem {
  if (!probe.reachable) return { ...item, reachable: false, suspended: true }
  return { ...item, reachable: true, suspended: unavailableMs(name, probe.latencyMs) > 0 }
}

/** The fault items of one producer, by broker group. */
export class FaultStrategy {
  readonly #enabled: boolean
  readonly #table: FaultTableName
  readonly #detector: boolean
  readonly #items = new Map<string, FaultItem>()

  constructor(options: { readonly enabled: boolean; readonly table: FaultTableName; readonly detector: boolean }) {
    this.#enabled = options.enabled
    this.#table = options.table
    this.#detector = options.detector
  }

  updateFaultItem(group: string, report: FaultReport, nowMs: number): void {
    if (!this.#enabled) return
    const options = { table: this.#table, nowMs, detector: this.#detector }
    this.#items.set(group, updateFaultItem(this.#items.get(group), report, options))
  }

  updateByProbe(group: string, probe: { readonly latencyMs: number; readonly reachable: boolean }): void {
    const item = this.#items.get(group)
    if (item) this.#items.set(group, updateByProbe(item, probe, this.#table))
  }

  /** A new leader: what was measured belongs to the old one. */
  forget(group: string): void {
    this.#items.delete(group)
  }

  isAvailable(group: string, nowMs: number): boolean {
    const item = this.#items.get(group)
    return item === undefined || (nowMs >= item.availableFromMs && item.reachable && !item.suspended)
  }

  isReachable(group: string): boolean {
    return this.#items.get(group)?.reachable ?? true
  }

  /** Groups that only a probe can bring back. */
  groupsToProbe(): readonly string[] {
    return [...this.#items].filter(([, item]) => item.suspended || !item.reachable).map(([group]) => group)
  }

  /**
   * The candidates worth using, by RocketMQ's filters in order: available and not the last one, reachable and not the
   * last one, any. Never empty unless the candidates are.
   */
  filter<Candidate extends { readonly group: string }>(
    candidates: readonly Candidate[],
    lastGroup: string | null,
    nowMs: number,
  ): readonly Candidate[] {
    if (!this.#enabled && lastGroup === null) return candidates
    const others = candidates.filter((candidate) => candidate.group !== lastGroup)
    if (this.#items.size === 0) return others.length > 0 ? others : candidates
    const available = others.filter((candidate) => this.isAvailable(candidate.group, nowMs))
    if (available.length > 0) return available
    const reachable = others.filter((candidate) => this.isReachable(candidate.group))
    if (reachable.length > 0) return reachable
    return candidates
  }
}

function table(latencies: readonly number[], durations: readonly number[]): readonly FaultLevel[] {
  return latencies.map((latencyMs, index) => ({ latencyMs, unavailableMs: durations[index] ?? 0 }))
}
