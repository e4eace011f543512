/** The whole state as its parts, in one place to hand around. Made by `state-machine.ts`, changed by apply alone. */
import type { StateStoreApi } from '../../../store/index.ts'
import { Garbage } from './garbage.ts'
import { GivenBack } from './given-back.ts'
import { GroupSettingsTable } from './group-settings.ts'
import { GroupTable } from './groups.ts'
import { HalfTable } from './halves.ts'
import { KeyIndex } from './key-index.ts'
import { type Limits, LimitTable } from './limits.ts'
import { LockTable } from './locks.ts'
import { MembershipTable } from './membership-table.ts'
import { GroupOffsets } from './offsets.ts'
import type { StateTable } from './pending-changes.ts'
import { ProducerSequences } from './producers.ts'
import { QueueTable } from './queues.ts'
import { ReceivedTable } from './received.ts'
import { TimerTable } from './timers.ts'
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
  readonly groupSettings: GroupSettingsTable
  readonly givenBack: GivenBack
  readonly locks: LockTable
  readonly received: ReceivedTable
  readonly halves: HalfTable
  readonly timers: TimerTable
  readonly keys: KeyIndex
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
    groupSettings: new GroupSettingsTable(),
    givenBack: new GivenBack(),
    locks: new LockTable(),
    received: new ReceivedTable(),
    halves: new HalfTable(),
    timers: new TimerTable(store),
    keys: new KeyIndex(store),
  }
  await tables.limits.load(store)
  await tables.topics.load(store)
  await tables.queues.load(store)
  await tables.producers.load(store)
  await tables.offsets.load(store)
  await tables.groups.load(store)
  await tables.membership.load(store)
  await tables.trim.load(store)
  await tables.keys.load(store)
  await tables.garbage.load(store, tables.queues.all(), [tables.keys.garbage])
  await tables.groupSettings.load(store)
  await tables.givenBack.load(store)
  await tables.locks.load(store)
  await tables.received.load(store)
  await tables.halves.load(store)
  await tables.timers.load(store)
  return tables
}

export function allTables(tables: Tables): readonly StateTable[] {
  const { limits, topics, queues, producers, offsets, groups, membership, trim, garbage } = tables
  const { groupSettings, givenBack, locks, received, halves, timers, keys } = tables
  const messaging = [groupSettings, givenBack, locks, received, halves, timers, keys]
  return [limits, topics, queues, producers, offsets, groups, membership, trim, garbage, ...messaging]
}
