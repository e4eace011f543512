/**
 * Stores timers once more that lie where the log is given up: nothing pins the log (design section 5). Called by the
 * leader's retention before it proposes a trim.
 *
 * They are found by their rows, so entries that hold none of them are not read, rotten or not. What is delivered or
 * recalled meanwhile is stored in vain, which apply sees. It must not say that all is carried before all of it was
 * applied: apply has to believe it.
 */
import type { CommitLogApi } from '../../../store/index.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { TimerKey } from '../../message/extensions.ts'
import { encodeCommand } from '../apply/command.ts'
import type { TimerRow } from '../apply/timer-rows.ts'
import type { Applied, ProposeOptions, StateMachineApi } from '../contract.ts'
import { CopiedBatch, type CopyLimits } from './copied-batch.ts'
import { queueName } from './due-queues.ts'
import { StoredRecords } from './stored-records.ts'

const proposeTimeoutMs = 10_000
/** Rows that are looked at at a time. */
const pageRows = 2048
/** Bytes a second at which messages are stored again: producers need the disk, too. */
const bytesPerSecond = 16 * 1024 * 1024
const lastTime = Number.MAX_SAFE_INTEGER - 1

export interface CarryTimersPorts {
  readonly clock: Clock
  readonly log: Pick<CommitLogApi, 'cachedAt' | 'readAt'>
  readonly machine: StateMachineApi
  readonly limits: CopyLimits
  leading(): boolean
  /** Proposes a command; and a batch: taken on a full disk, too. */
  propose(command: readonly Uint8Array[], options: ProposeOptions): Promise<Applied>
  store(batch: readonly Uint8Array[], options: ProposeOptions): Promise<Applied>
}

/**
 * Afterwards no pending timer lies before this entry, unless this replica leads no more. Rejects as `propose` does, and
 * with StoreErrors. Timers that come meanwhile lie behind it, so one pass over the rows is enough.
 */
export async function carryTimers(ports: CarryTimersPorts, firstIndex: number): Promise<void> {
  const { timers } = ports.machine
  // Without any there is nothing to say either; apply notices when one comes before the trim does.
  if (timers.pending === 0 || timers.carriedUpTo >= firstIndex - 1) return
  let behind: TimerKey | null = null
  for (let isComplete = false; !isComplete; ) {
    const page = await timers.rows.due(lastTime, pageRows, behind)
    isComplete = page.isComplete
    behind = page.rows.at(-1)?.key ?? behind
    const old = page.rows.filter(({ key, place }) => place.index < firstIndex && timers.isPending(place, key))
    await carryRows(ports, old)
    if (!ports.leading()) return
  }
  const body = [encodeCommand({ kind: 'timers_carried', upTo: firstIndex - 1 })]
  await ports.propose(body, { timeoutMs: proposeTimeoutMs })
}

/** One batch after the other, each for one queue. */
async function carryRows(ports: CarryTimersPorts, old: readonly TimerRow[]): Promise<void> {
  const records = new StoredRecords(ports.log)
  for (const rows of byQueue(old)) {
    for (let next = 0; next < rows.length; ) {
      const batch = new CopiedBatch(ports.limits)
      const from = next
      for (; next < rows.length; next++) if (!batch.add(await records.read((rows[next] as TimerRow).place))) break
      if (!ports.leading()) return
      await store(ports, batch, rows.slice(from, next))
    }
  }
}

async function store(ports: CarryTimersPorts, batch: CopiedBatch, rows: readonly TimerRow[]): Promise<void> {
  const { topicId, queue } = (rows[0] as TimerRow).place
  const topic = ports.machine.topicById(topicId)?.config.topic
  // Deleted meanwhile, and its messages with it.
  if (topic === undefined) return
  const body = batch.encode({ topic, queue }, { kind: 'carried_timers', topicId, sources: rows.map(({ key }) => key) })
  const { result } = await ports.store([body], { timeoutMs: proposeTimeoutMs })
  if (result.kind === 'refused') throw new LedgerError(result.code, result.message)
  await sleep(ports.clock, (body.length / bytesPerSecond) * 1000)
}

/** Neighbours in the log beside each other, so that an entry is read once. */
function byQueue(rows: readonly TimerRow[]): readonly (readonly TimerRow[])[] {
  const queues = new Map<string, TimerRow[]>()
  for (const row of rows) {
    const queue = queues.get(queueName(row.place))
    if (queue) queue.push(row)
    else queues.set(queueName(row.place), [row])
  }
  const byPlace = (a: TimerRow, b: TimerRow): number =>
    a.place.position - b.place.position || a.place.record - b.place.record
  return [...queues.values()].map((queue) => queue.sort(byPlace))
}
