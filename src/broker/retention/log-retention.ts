/**
 * The leader's retention: looks now and then which segments may go, and proposes it. Owned by the replica's upkeep.
 *
 * It only proposes. What goes and when is decided by the `trim` entry, and each replica deletes by itself
 * (`replica/trimmer.ts`). A lost proposal is made again at the next round.
 */
import { type CommitLogApi, type Disk, type DiskSpace, type SegmentInfo, StoreError } from '../../../store/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import { encodeCommand } from '../apply/command.ts'
import type { ProposeOptions, StateMachineApi } from '../contract.ts'
import { chooseTrim, segmentsPerRoundMax, type TrimChoice } from './choose-trim.ts'
import type { RetentionSettings } from './settings.ts'
import { planTrim } from './trim-plan.ts'

const proposeTimeoutMs = 10_000

export interface LogRetentionPorts {
  readonly clock: Clock
  readonly logger: Logger
  readonly log: Pick<CommitLogApi, 'segments' | 'endPosition' | 'read'>
  readonly machine: StateMachineApi
  readonly disk: Pick<Disk, 'space'>
  /** Free bytes without which a full disk stays full; 0 while the reserve is held. */
  wantedFreeBytes(): number
  /** Any directory on the disk of the log. */
  readonly directory: string
  readonly settings: RetentionSettings
  /** Time between two rounds, milliseconds. */
  readonly roundMs: number
  leading(): boolean
  /** Log time as it would be stamped now. */
  logTime(): number
  /** Reachable members of the group besides this one. */
  followers(): readonly { readonly node: string; readonly matchIndex: number }[]
  propose(body: readonly Uint8Array[], options: ProposeOptions): Promise<unknown>
  /** About to be proposed, by what the leader knows at this moment. */
  chosen(choice: TrimChoice): void
  /** The group agreed: these followers lose what they still need. */
  leftBehind(nodes: readonly string[]): void
}

export class LogRetention {
  readonly #ports: LogRetentionPorts
  /** Log time of the last entry of a sealed segment, by its base. */
  readonly #endTimes = new Map<number, number>()
  #cancel: Cancel = () => {}
  #stopped = false
  #round: Promise<void> | null = null
  #space: DiskSpace | null = null

  constructor(ports: LogRetentionPorts) {
    this.#ports = ports
  }

  /** Of the disk, as last measured: by followers, too. */
  get space(): DiskSpace | null {
    return this.#space
  }

  start(): void {
    this.#round = this.#look().finally(() => this.#ended())
  }

  /** The disk is full: looks without waiting for its time. */
  lookNow(): void {
    if (this.#round !== null || this.#stopped) return
    this.#cancel()
    this.start()
  }

  /** Resolves when nothing of it runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancel()
    await this.#round
  }

  #plan(): void {
    const { clock, roundMs } = this.#ports
    this.#cancel = clock.after(roundMs, () => this.start(), { background: true })
  }

  #ended(): void {
    this.#round = null
    if (!this.#stopped) this.#plan()
  }

  async #look(): Promise<void> {
    try {
      const space = await this.#ports.disk.space(this.#ports.directory)
      this.#space = space
      if (this.#stopped || !this.#ports.leading()) return
      const choice = await this.#choose(space)
      if (choice && choice.firstIndex > this.#ports.machine.trimmed.firstIndex) await this.#propose(choice)
    } catch (error) {
      // Deposed, without a quorum or stopping: whoever leads next does it.
      const text = error instanceof Error ? error.message : String(error)
      this.#ports.logger.debug('nothing was trimmed', { error: text })
    }
  }

  async #choose(space: DiskSpace): Promise<TrimChoice | null> {
    const { log, settings, machine } = this.#ports
    // Right after the look at the disk: what is taken for the reserve in between must not be missed twice.
    const wantedFreeBytes = this.#ports.wantedFreeBytes()
    const expiredCount = await this.#expiredCount()
    const { endPosition } = log
    const { appliedIndex } = machine
    const [segments, followers] = [log.segments(), this.#ports.followers()]
    return chooseTrim({
      settings,
      segments,
      expiredCount,
      endPosition,
      appliedIndex,
      space,
      wantedFreeBytes,
      followers,
    })
  }

  async #propose(choice: TrimChoice): Promise<void> {
    const { firstIndex, reason, leftBehind } = choice
    const { machine, propose, logger } = this.#ports
    logger.info('the beginning of the log is given up', { firstIndex, reason })
    this.#ports.chosen(choice)
    for (const command of await planTrim(machine, firstIndex)) {
      if (this.#stopped || !this.#ports.leading()) return
      // On a slow disk the plan takes so long that others led meanwhile, and gave up more.
      if (firstIndex <= machine.trimmed.firstIndex) return
      await propose([encodeCommand(command)], { timeoutMs: proposeTimeoutMs })
    }
    if (leftBehind.length > 0) this.#ports.leftBehind(leftBehind)
  }

  /** Log time grows along the log, so the first segment that is young enough ends the search. */
  async #expiredCount(): Promise<number> {
    const { log, settings } = this.#ports
    const expiredBefore = this.#ports.logTime() - settings.reservedMs
    const segments = log.segments()
    this.#forget(segments[0]?.base ?? 0)
    let count = 0
    for (let at = 0; at < segments.length && at < segmentsPerRoundMax; at++) {
      const next = segments[at + 1]
      if (!segments[at]?.sealed || !next) break
      const time = await this.#endTime(segments[at] as SegmentInfo, next)
      if (time !== null && time >= expiredBefore) break
      if (time !== null) count = at + 1
    }
    return count
  }

  /** Null when the entry cannot be read: the segments behind it tell then. */
  async #endTime(segment: SegmentInfo, next: SegmentInfo): Promise<number | null> {
    const known = this.#endTimes.get(segment.base)
    if (known !== undefined) return known
    const last = next.firstIndex - 1
    // Its entries are lost, and nobody knows with which one the next segment begins.
    if (last < segment.firstIndex) return null
    try {
      const frames = await this.#ports.log.read(last, last, 1)
      const time = frames.find((frame) => frame.header.index === last)?.header.storeTime ?? null
      if (time !== null) this.#endTimes.set(segment.base, time)
      return time
    } catch (error) {
      if (error instanceof StoreError && error.code === 'ROTTEN') return null
      throw error
    }
  }

  #forget(base: number): void {
    for (const known of this.#endTimes.keys()) if (known < base) this.#endTimes.delete(known)
  }
}
