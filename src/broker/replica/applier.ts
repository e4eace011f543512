/**
 * Applies committed entries in order, in slices short enough that heartbeats and votes never wait for it. Owned by
 * the replica loop, which tells it how far it may go: up to min(commit, own durable index).
 *
 * Must never apply an entry that is not on this node's own disk (S4), and never skip one.
 */
import type { CommitLogApi, Frame } from '../../../store/index.ts'
import { frameBody, StoreError } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { ApplyResult, CommittedEntry, StateMachineApi } from '../contract.ts'
import type { ReplicaLimits } from '../options.ts'

/** Frames fetched for one slice. */
const sliceBytesMax = 1024 * 1024
/** Reads in a row that may be repeated because the log was cut behind what they read. */
const cutReadsMax = 1000
/** Pause before an entry that could not be read is tried again, milliseconds. */
const unreadableMs = 500
/** Entries between two looks at the clock. */
const clockEvery = 16

export interface ApplierPorts {
  readonly clock: Clock
  readonly log: CommitLogApi
  readonly machine: StateMachineApi
  readonly limits: ReplicaLimits
  applied(entry: CommittedEntry, result: ApplyResult): void
  /** True: nothing is applied, because the state machine has no state to apply it to. */
  readonly paused: boolean
  /** End of a slice: everything up to `index` is applied. */
  progressed(index: number): void
  /** The next entry cannot be read; `resume` tries again. */
  rotten(error: unknown): void
  failed(error: unknown): void
}

export class Applier {
  readonly #ports: ApplierPorts
  #target: number
  #busy = false
  #stopped = false
  #cutReads = 0
  /** One only: every commit tries, too, and each try that fails would leave another. */
  #readAgain: Cancel | null = null

  constructor(ports: ApplierPorts) {
    this.#ports = ports
    this.#target = ports.machine.appliedIndex
  }

  /** Entries up to `index` are committed and durable here. */
  applyTo(index: number): void {
    invariant(index >= this.#target, `R4: commit went back from ${this.#target} to ${index}`)
    invariant(index <= this.#ports.log.durableIndex, `S4: entry ${index} is not on the own disk`)
    this.#target = index
    this.resume()
  }

  /** Goes on after a pause, when there is something left. */
  resume(): void {
    if (this.#busy || this.#stopped || this.#ports.paused) return
    this.#busy = true
    this.#turn()
  }

  stop(): void {
    this.#stopped = true
    this.#readAgain?.()
  }

  get done(): boolean {
    return this.#ports.machine.appliedIndex >= this.#target
  }

  #turn(): void {
    this.#busy = true
    try {
      this.#slice()
    } catch (error) {
      this.stop()
      this.#ports.failed(error)
    }
  }

  /** One slice of what is in memory; what is not is read first. Ends by deciding how to go on. */
  #slice(): void {
    const { clock, log, machine, limits } = this.#ports
    const endMs = clock.monotonicMs() + limits.applySliceMs
    const before = machine.appliedIndex
    let left = limits.applySliceEntries
    let missing = false
    while (!this.#stopped && machine.appliedIndex < this.#target && left > 0) {
      if (machine.unwrittenCount > limits.unwrittenMax) break
      const frames = log.cached(machine.appliedIndex + 1, sliceBytesMax)
      missing = frames === undefined
      if (!frames) break
      left = this.#applyFrames(frames, left, endMs)
    }
    if (machine.appliedIndex > before) this.#ports.progressed(machine.appliedIndex)
    this.#next(missing)
  }

  #next(missing: boolean): void {
    const { clock, log, machine, limits } = this.#ports
    this.#busy = false
    // A paused applier is resumed by the state writer.
    if (this.#stopped || this.done || machine.unwrittenCount > limits.unwrittenMax) return
    this.#busy = true
    if (!missing) {
      clock.defer(() => this.#turn())
      return
    }
    log
      .read(machine.appliedIndex + 1, this.#target, sliceBytesMax)
      .then((frames) => {
        if (this.#stopped) return
        this.#cutReads = 0
        this.#applyFrames(frames, frames.length, clock.monotonicMs() + limits.applySliceMs)
        this.#ports.progressed(machine.appliedIndex)
        this.#next(true)
      })
      .catch((error: unknown) => {
        if (this.#stopped) return
        if (isCut(error) && ++this.#cutReads <= cutReadsMax) {
          clock.defer(() => this.#turn())
          return
        }
        if (isRotten(error)) {
          this.#busy = false
          this.#ports.rotten(error)
          this.#awaitReadable()
          return
        }
        this.stop()
        this.#ports.failed(error)
      })
  }

  /** What lies in a hole is waited for until it is put back. In none, it may be readable the next time. */
  #awaitReadable(): void {
    const { clock, log, machine } = this.#ports
    const next = machine.appliedIndex + 1
    if (log.holes.some(({ fromIndex, toIndex }) => fromIndex <= next && next <= toIndex)) return
    this.#readAgain?.()
    this.#readAgain = clock.after(unreadableMs, () => this.resume(), { background: true })
  }

  /** Applies frames until the slice is used up; returns how many entries are left in it. */
  #applyFrames(frames: readonly Frame[], leftBefore: number, endMs: number): number {
    const { clock, machine } = this.#ports
    let left = leftBefore
    for (const frame of frames) {
      if (frame.header.index > this.#target || left === 0) break
      const entry = committedEntry(frame)
      invariant(entry.index === machine.appliedIndex + 1, `B1: entry ${entry.index} after ${machine.appliedIndex}`)
      const result = machine.apply(entry)
      this.#ports.applied(entry, result)
      left--
      if (left % clockEvery === 0 && clock.monotonicMs() >= endMs) return 0
    }
    return left
  }
}

/** A cut of uncommitted entries ends every read under way, also one of committed entries, which are still there. */
function isCut(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'OUT_OF_RANGE'
}

/** Bytes that a peer can give back: nothing is lost yet, so nothing has failed. */
function isRotten(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'ROTTEN'
}

function committedEntry(frame: Frame): CommittedEntry {
  const { index, term, type, storeTime, position } = frame.header
  return { index, term, type, storeTime, body: frameBody(frame), position }
}
