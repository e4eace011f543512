/** A topic whose queues members of a group consume, give back, lock and commit; for the tests of this folder. */
import type { GroupSettings } from '../../../../src/broker/apply/group-config.ts'
import { defaultGroupSettings } from '../../../../src/broker/apply/group-config.ts'
import type { ApplyResult } from '../../../../src/broker/contract.ts'
import { encodeBatch } from '../../../../src/message/batch.ts'
import { type ConsumedSource, deliveryExtension } from '../../../../src/message/extensions.ts'
import { deadLetterTopicOf, retryTopicOf } from '../../../../src/message/system-topics.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import { frameTypes } from '../../../../store/index.ts'
import { Bench } from './support.ts'

export type ConsumedKind = 'retry' | 'dead_letters'

export interface ConsumedOptions {
  readonly kind?: ConsumedKind
  readonly topic?: string
  readonly batchQueue?: number
  readonly records?: number
}

/** A batch as a leader makes it of messages that a consumer could not handle. */
export function consumedBatch(source: ConsumedSource, options: ConsumedOptions = {}): Buffer {
  const kind = options.kind ?? 'retry'
  const own = kind === 'retry' ? retryTopicOf(source.group) : deadLetterTopicOf(source.group)
  return encodeBatch({
    codec: codecs.none,
    kind: kind === 'retry' ? batchKinds.delayed : batchKinds.internal,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 1_700_000_000_000,
    topic: options.topic ?? own,
    queue: options.batchQueue ?? 0,
    bornHost: '',
    extensions: [deliveryExtension({ kind, source })],
    records: Array.from({ length: options.records ?? source.offsets.length }, (_, at) => ({
      bornDelta: 0,
      messageId: `M${at}`,
      tag: '',
      keys: [],
      messageGroup: '',
      deliveryTime: kind === 'retry' ? 9_000_000 : 0,
      attempt: 1,
      origin: { topic: 't', queue: source.queue, offset: source.offsets[at] ?? 0 },
      flags: 0,
      traceParent: '',
      properties: {},
      body: Buffer.from('x'),
    })),
  })
}

export class ConsumedBench {
  readonly bench: Bench
  topicId: number

  private constructor(bench: Bench, topicId: number) {
    this.bench = bench
    this.topicId = topicId
  }

  /** Topic `t` with this many queues of `messages` each, all of them assigned to member `a` in generation 1. */
  static async open(queues = 2, messages = 50): Promise<ConsumedBench> {
    const bench = await Bench.open()
    const consumed = new ConsumedBench(bench, bench.topic('t', queues))
    for (let queue = 0; queue < queues; queue++) bench.send({ topic: 't', queue, records: messages })
    const all = Array.from({ length: queues }, (_, queue) => queue)
    consumed.assign(0, { a: all })
    return consumed
  }

  assign(expectedGeneration: number, queuesByMember: Readonly<Record<string, readonly number[]>>): ApplyResult {
    const members = Object.entries(queuesByMember).map(([member, queues]) => ({
      member,
      topics: ['t'],
      queues: queues.map((queue) => ({ topicId: this.topicId, queue })),
    }))
    return this.bench.command({ kind: 'assign_group', group: 'g', expectedGeneration, members })
  }

  source(offsets: readonly number[], fields: Partial<ConsumedSource> = {}): ConsumedSource {
    const by = { group: 'g', topicId: this.topicId, queue: 0, member: 'a', generation: 1, receipts: [] }
    return { ...by, offsets, ...fields }
  }

  giveBack(
    offsets: readonly number[],
    fields: Partial<ConsumedSource> = {},
    options: ConsumedOptions = {},
  ): ApplyResult {
    return this.bench.feed(frameTypes.batch, consumedBatch(this.source(offsets, fields), options))
  }

  commit(
    offset: number,
    fields: { queue?: number; member?: string; generation?: number; seek?: boolean; leased?: boolean } = {},
  ): ApplyResult {
    const { queue = 0, member = 'a', generation = 1, seek = false, leased = false } = fields
    const offsets = [{ topicId: this.topicId, queue, offset }]
    return this.bench.command({ kind: 'commit_offsets', group: 'g', member, generation, seek, leased, offsets })
  }

  lock(
    queues: readonly number[],
    fields: { member?: string; generation?: number; leaseMs?: number } = {},
  ): ApplyResult {
    const { member = 'a', generation = 1, leaseMs = 60_000 } = fields
    const ids = queues.map((queue) => ({ topicId: this.topicId, queue }))
    return this.bench.command({ kind: 'lock_queues', group: 'g', member, generation, leaseMs, queues: ids })
  }

  unlock(queues: readonly number[], member = 'a', generation = 1): ApplyResult {
    const ids = queues.map((queue) => ({ topicId: this.topicId, queue }))
    return this.bench.command({ kind: 'unlock_queues', group: 'g', member, generation, queues: ids })
  }

  setGroup(settings: Partial<GroupSettings>, group = 'g'): ApplyResult {
    return this.bench.command({ kind: 'set_group', group, settings: { ...defaultGroupSettings, ...settings } })
  }

  deleteGroup(): ApplyResult {
    return this.bench.command({ kind: 'delete_group', group: 'g' })
  }

  has(offset: number, queue = 0): boolean {
    return this.bench.machine.givenBack.has({ group: 'g', topicId: this.topicId, queue }, offset)
  }

  /** Log time goes on. */
  pass(ms: number): void {
    this.bench.time += ms
  }

  /** The code of a refusal; else the kind of the result. */
  static outcome(result: ApplyResult): string {
    return result.kind === 'refused' ? result.code : result.kind
  }

  /** Whether a row of this kind is in the state store. */
  async rowCount(kind: number): Promise<number> {
    await this.bench.flush()
    const range = { from: Buffer.of(kind), to: Buffer.of(kind + 1), limit: 1000 }
    return (await this.bench.store.range(range)).length
  }
}
