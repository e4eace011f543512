/** The whole state as its parts, in one place to hand around. Made by `state-machine.ts`, changed by apply alone. */
import type { StateStoreApi } from '../../../store/index.ts'
import { Garbage } from './garbage.ts'
import { GroupTable } from './groups.ts'
import { type Limits, LimitTable } from './limits.ts'
import { MembershipTable } from './membership-table.ts'
import { GroupOffsets } from './offsets.ts'
import type { StateTable } from './pending-changes.ts'
import { ProducerSequences } from './producers.ts'
import { QueueTable } from './queues.ts'
import { TopicTable } from './topics.ts'
import { TrimTable } from './trim-table.ts'

export interface Tables {
  readonly limits: LimitTable
  readonly topics: TopicTable
  readonly queues: QueueTable
  readonly producers: ProducerSequences
  readonly offsets: GroupOffsets
  readonly groups: GroupTable
  readonly membership: MembershipTable
  readonly trim: TrimTable
  readonly garbage: Garbage
}

/** Reads everything but ConsumeQueue rows into memory. */
export async function loadTables(
  store: StateStoreApi,
  options: { readonly limits: Limits; readonly tailRowsMax: number },
): Promise<Tables> {
  const tables: Tables = {
    limits: new LimitTable(options.limits),
    topics: new TopicTable(),
    queues: new QueueTable(options.tailRowsMax),
    producers: new ProducerSequences(),
    offsets: new GroupOffsets(),
    groups: new GroupTable(),
    membership: new MembershipTable(),
    trim: new TrimTable(),
    garbage: new Garbage(),
  }
  await tables.limits.load(store)
  await tables.topics.load(store)
  await tables.queues.load(store)
  await tables.producers.load(store)
  await tables.offsets.load(store)
  await tables.groups.load(store)
  await tables.membership.load(store)
  await tables.trim.load(store)
  await tables.garbage.load(store, tables.queues.all())
  return tables
}

export function allTables(tables: Tables): readonly StateTable[] {
  const { limits, topics, queues, producers, offsets, groups, membership, trim, garbage } = tables
  return [limits, topics, queues, producers, offsets, groups, membership, trim, garbage]
}
