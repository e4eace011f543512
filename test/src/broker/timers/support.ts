/** The timer service on a scripted replica, with log time that a test moves. */
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { TimerService } from '../../../../src/broker/timers/timer-service.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import { readBatchHeader, readRecords } from '../../../../src/message/batch.ts'
import type { TimerKey } from '../../../../src/message/extensions.ts'
import { batchKinds, type RecordFields } from '../../../../src/message/types.ts'
import { frameBody, frameTypes } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { type BatchOptions, makeBatch } from '../apply/support.ts'
import { ScriptedReplica } from '../scripted-replica.ts'

export interface Delivered {
  readonly record: RecordFields
  readonly bornTime: number
  /** Log time at which it was delivered. */
  readonly at: number
}

export class TimerBench {
  readonly replica: ScriptedReplica
  readonly clock: ManualClock = new ManualClock()
  readonly service: TimerService

  private constructor(replica: ScriptedReplica) {
    this.replica = replica
    this.service = new TimerService({ replica, clock: this.clock, logger: silentLogger })
  }

  static async open(): Promise<TimerBench> {
    return new TimerBench(await ScriptedReplica.open())
  }

  topic(topic: string, queues = 1): number {
    const config = { topic, readQueues: queues, writeQueues: queues, permission: 6 }
    const applied = this.replica.commit(frameTypes.command, encodeCommand({ kind: 'create_topic', config }))
    if (applied?.result.kind !== 'topic') throw new Error('no topic was created')
    return applied.result.topic.topicId
  }

  /** Messages that are due so many milliseconds after the log time of their entry. Returns its index. */
  delay(after: readonly number[], options: Partial<BatchOptions> = {}): number {
    const times = after.map((ms) => this.replica.logTime + 1 + ms)
    const batch = makeBatch({ topic: 't', kind: batchKinds.delayed, times, ...options })
    const applied = this.replica.commit(frameTypes.batch, batch)
    if (applied && applied.result.kind !== 'pending') throw new Error(JSON.stringify(applied.result))
    return this.replica.commitIndex
  }

  recall(topicId: number, timer: TimerKey): boolean {
    const command = { kind: 'recall_timer', topicId, queue: 0, timer } as const
    const applied = this.replica.commit(frameTypes.command, encodeCommand(command))
    return applied?.result.kind === 'recalled' && applied.result.done
  }

  /** Time passes, on the clock and in the log, ten milliseconds at a time. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 10) {
      this.replica.passedMs += Math.min(10, left)
      await this.clock.advance(Math.min(10, left))
    }
  }

  async delivered(topicId: number, queue = 0): Promise<readonly Delivered[]> {
    const { machine, tinyLog } = this.replica
    const rows = await machine.findRows(topicId, queue, 0, 10_000)
    return rows.flatMap(({ position, storeTime }) => {
      const frame = tinyLog.frames.get(position)
      if (!frame) throw new Error(`nothing lies at ${position}`)
      const { baseBornTime } = readBatchHeader(frameBody(frame))
      return readRecords(frameBody(frame)).map((record) => ({
        record,
        bornTime: baseBornTime + record.bornDelta,
        at: storeTime,
      }))
    })
  }
}
