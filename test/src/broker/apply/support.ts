/** A state machine on a real state store (memory ports) with its log, for the tests of this folder. */

import { type Command, encodeCommand } from '../../../../src/broker/apply/command.ts'
import { openStateMachine, type StateMachine } from '../../../../src/broker/apply/state-machine.ts'
import type { ApplyResult, CommittedEntry, QueueRow } from '../../../../src/broker/contract.ts'
import { encodeBatch } from '../../../../src/message/batch.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import {
  type FrameType,
  frameTypes,
  MemoryKeyValueEngine,
  openStateStore,
  type StateBatch,
  type StateStoreApi,
} from '../../../../store/index.ts'
import { MemoryDisk } from '../../../../store/memory-disk.ts'

export interface BatchOptions {
  readonly topic: string
  readonly queue?: number
  readonly records?: number
  /** One byte of a producer id; 0 or absent: not checked for duplicates. */
  readonly producer?: number
  readonly epoch?: number
  readonly sequence?: number
  readonly first?: boolean
  readonly body?: string
}

export function makeBatch(options: BatchOptions): Buffer {
  return encodeBatch({
    codec: codecs.none,
    kind: batchKinds.normal,
    firstOfProducer: options.first ?? false,
    producerId: producerId(options.producer ?? 0),
    producerEpoch: options.epoch ?? 0,
    baseSequence: options.sequence ?? 0,
    baseBornTime: 1_700_000_000_000,
    topic: options.topic,
    queue: options.queue ?? 0,
    bornHost: '',
    extensions: [],
    records: Array.from({ length: options.records ?? 1 }, (_, number) => ({
      bornDelta: 0,
      messageId: `M${number}`,
      tag: '',
      keys: [],
      messageGroup: '',
      deliveryTime: 0,
      attempt: 0,
      origin: null,
      flags: 0,
      traceParent: '',
      properties: {},
      body: Buffer.from(options.body ?? 'x'),
    })),
  })
}

/** Id of a numbered producer; 0 is the id that is not checked. */
export function producerId(number: number): Buffer {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(number, 12)
  return id
}

export interface MachineOptions {
  readonly tailRowsMax?: number
}

export class Bench {
  readonly log: CommittedEntry[] = []
  /** What `feed` gave, in order. */
  readonly results: ApplyResult[] = []
  readonly #options: MachineOptions
  #engine = new MemoryKeyValueEngine()
  #disk = new MemoryDisk()
  #store!: StateStoreApi
  machine!: StateMachine
  time = 1_000_000
  term = 1

  private constructor(options: MachineOptions) {
    this.#options = options
  }

  static async open(options: MachineOptions = {}): Promise<Bench> {
    const bench = new Bench(options)
    await bench.#start()
    return bench
  }

  get store(): StateStoreApi {
    return this.#store
  }

  /** Puts the entry into the log and applies it. */
  feed(type: FrameType, body: Buffer): ApplyResult {
    const index = this.log.length + 1
    const entry = { index, term: this.term, type, storeTime: this.time, body, position: index * 4096 }
    this.log.push(entry)
    const result = this.machine.apply(entry)
    this.results.push(result)
    return result
  }

  command(command: Command): ApplyResult {
    return this.feed(frameTypes.command, encodeCommand(command))
  }

  send(options: BatchOptions): ApplyResult {
    return this.feed(frameTypes.batch, makeBatch(options))
  }

  /** Creates a topic that can be read and written. Returns its id. */
  topic(topic: string, queues = 1): number {
    const config = { topic, readQueues: queues, writeQueues: queues, permission: 6 }
    const result = this.command({ kind: 'create_topic', config })
    if (result.kind !== 'topic') throw new Error(`not created: ${JSON.stringify(result)}`)
    return result.topic.topicId
  }

  take(): StateBatch | null {
    return this.machine.takeChanges()
  }

  async write(batch: StateBatch): Promise<void> {
    await this.#store.write(batch)
    this.machine.changesWritten(batch.appliedIndex)
  }

  async flush(): Promise<void> {
    const batch = this.take()
    if (batch) await this.write(batch)
  }

  /** The process dies without writing what was not written, starts again and applies the rest of its log. */
  async restart(): Promise<void> {
    this.#engine = this.#engine.kill()
    this.#disk = this.#disk.kill()
    await this.#start()
    for (const entry of this.log.slice(this.machine.appliedIndex)) this.machine.apply(entry)
  }

  /** Another node that applies the same log from the beginning. */
  async twin(options: MachineOptions = {}): Promise<Bench> {
    const twin = await Bench.open(options)
    for (const entry of this.log) twin.#replay(entry)
    return twin
  }

  #replay(entry: CommittedEntry): void {
    this.log.push(entry)
    this.time = entry.storeTime
    this.machine.apply(entry)
  }

  async #start(): Promise<void> {
    this.#store = await openStateStore({ engine: this.#engine, disk: this.#disk, directory: '/state', trusted: true })
    this.machine = await openStateMachine(this.#store, this.#options)
  }
}

/** Everything that can be read, for comparing two machines. */
export async function readAll(machine: StateMachine, groups: readonly string[]): Promise<unknown> {
  const queues: unknown[] = []
  for (const { topicId, config } of machine.topics()) {
    for (let queue = 0; machine.queueRange(topicId, queue); queue++) {
      const rows = await readQueue(machine, topicId, queue)
      const committed = groups.map((group) => machine.committedOffset(group, topicId, queue))
      queues.push({ topic: config.topic, queue, range: machine.queueRange(topicId, queue), rows, committed })
    }
  }
  return {
    appliedIndex: machine.appliedIndex,
    appliedTime: machine.appliedTime,
    topicsVersion: machine.topicsVersion,
    membership: machine.membership,
    trimmed: machine.trimmed,
    hash: machine.hash,
    limits: machine.limits,
    topics: machine.topics(),
    producers: machine.producerCount,
    assignments: groups.map((group) => machine.assignment(group)),
    groupsWithMembers: machine.groupsWithMembers(),
    queues,
  }
}

/** All rows of a queue, in pages of seven. */
export async function readQueue(machine: StateMachine, topicId: number, queue: number): Promise<QueueRow[]> {
  const rows: QueueRow[] = []
  for (let offset = 0; ; ) {
    const page = await machine.findRows(topicId, queue, offset, 7)
    const last = page.at(-1)
    if (!last) return rows
    rows.push(...page)
    offset = last.baseOffset + last.recordCount
  }
}
