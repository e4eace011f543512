/** Sums of many runs: what `npm run sim` prints last. */
import type { RunResult } from './simulation.ts'

export class Totals {
  seeds = 0
  failed = 0
  elections = 0
  crashes = 0
  acknowledged = 0
  faults = 0
  unknown = 0
  consumed = 0
  commits = 0
  reads = 0
  topicChanges = 0
  trims = 0
  copies = 0
  rotted = 0
  changes = 0
  events = 0
  virtualMs = 0
  repeated = 0
  readonly faultsByKind: Record<string, number> = {}

  add(result: RunResult, repeated: boolean): void {
    this.seeds++
    if (result.failure !== null) this.failed++
    if (repeated) this.repeated++
    this.elections += result.elections
    this.crashes += result.crashes
    this.acknowledged += result.acknowledged
    this.faults += result.faults
    this.unknown += result.unknown
    this.consumed += result.consumed
    this.commits += result.commits
    this.reads += result.reads
    this.topicChanges += result.topicChanges
    this.trims += result.trims
    this.copies += result.copies
    this.rotted += result.rotted
    this.changes += result.changes
    this.events += result.events
    this.virtualMs += result.virtualMs
    for (const [kind, count] of Object.entries(result.faultsByKind)) {
      this.faultsByKind[kind] = (this.faultsByKind[kind] ?? 0) + count
    }
  }

  summary(seconds: number): object {
    const { seeds, failed, elections, crashes, acknowledged, faults } = this
    const { unknown, consumed, commits, reads, topicChanges, trims, copies, rotted, changes, events } = this
    const { repeated, faultsByKind } = this
    const virtualSeconds = Math.round(this.virtualMs / 1000)
    return {
      seeds,
      failed,
      elections,
      crashes,
      acknowledged,
      faults,
      seconds,
      unknown,
      consumed,
      commits,
      reads,
      topicChanges,
      trims,
      copies,
      rotted,
      changes,
      events,
      virtualSeconds,
      repeated,
      faultsByKind,
    }
  }
}
