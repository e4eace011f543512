/**
 * The last resort for a group whose majority is lost for good: one survivor becomes the only voter of a new incarnation
 * of the group, which grows again by adding members. Called by `ledgermq raft recover`, on a stopped broker.
 *
 * It breaks what consensus promises: entries that only the lost majority had are gone, acknowledged or not. So it acts
 * on exactly the state that was shown to the operator, and the new incarnation shuts out every replica of the old one:
 * they cannot vote here. But a majority of them with their old folders can still be the old group beside this one, and
 * a namesrv takes the one that it hears of first: nothing but the operator keeps them from being started.
 */
import { type CommitLogApi, type Disk, frameTypes, type KeyValueEngine, openStateStore } from '../../store/index.ts'
import type { Clock, Random } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import type { FirstConfiguration, Member } from '../rpc/methods.ts'
import { stateFormatVersion } from './apply/meta.ts'
import { encodeMembership } from './membership/codec.ts'
import { isMember, type Membership, membersOf } from './membership/membership.ts'
import { defaultReplicaLimits } from './options.ts'
import { stateDirectory } from './replica/generations.ts'
import { FolderRecords, type Identity, uuid } from './replica/identity.ts'
import { type Recovered, recover } from './replica/recovery.ts'
import { startError } from './start-error.ts'

export interface RecoveryPorts {
  readonly disk: Disk
  readonly engine: KeyValueEngine
  readonly clock: Clock
  readonly random: Random
}

/** What one stopped replica holds. Of several survivors the one with the highest (lastTerm, lastIndex) has the most. */
export interface Survivor {
  readonly directory: string
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation: string
  readonly lastTerm: number
  readonly lastIndex: number
  /** Known here to be committed; what lies behind it may or may not have been. */
  readonly commitIndex: number
  readonly voters: readonly string[]
  /** Why nothing can be made of it, null when it can. */
  readonly problem: string | null
  /** To be repeated word for word, so that nobody recovers another replica or another state of it than was looked at. */
  readonly confirmation: string
}

/** Looks at a stopped replica. Rejects with CONFIG_INVALID when it is not there, FOREIGN_FOLDER, FOLDER_IN_USE while it runs, or STORAGE_FAILED. */
export function inspectSurvivor(directory: string, ports: RecoveryPorts): Promise<Survivor> {
  return withReplica(directory, ports, async (open) => survivorOf(open))
}

/**
 * Makes the replica in `directory` the only voter of its group. Rejects with CONFIG_INVALID, and with nothing changed,
 * when `confirmation` is not that of the replica as it is now or its log is damaged. When it was cut short it can be
 * repeated: the new incarnation comes first and is what keeps the old group away.
 */
export function forceRecovery(directory: string, ports: RecoveryPorts, confirmation: string): Promise<Survivor> {
  return withReplica(directory, ports, async (open) => {
    const survivor = survivorOf(open)
    if (survivor.problem !== null) throw invalid(survivor.problem)
    if (survivor.confirmation !== confirmation) {
      throw invalid(`the confirmation is "${confirmation}", this replica needs "${survivor.confirmation}"`)
    }
    const { records, recovered, self } = open
    // First: nothing of the old group may take the place of what the new one has.
    await records.removeIncoming()
    const configuration = newIncarnation(open.configuration, self, uuid(ports.random))
    await records.saveConfiguration(configuration)
    await appendAlone(recovered, self, ports.clock)
    await endQuarantine(records, recovered)
    return survivorOf({ ...open, configuration, membership: aloneWith(self) })
  })
}

interface OpenReplica {
  readonly directory: string
  readonly records: FolderRecords
  readonly identity: Identity
  readonly configuration: FirstConfiguration
  readonly recovered: Recovered
  /** Newest one in the log, committed or not. */
  readonly membership: Membership
  /** This replica as a member. */
  readonly self: Member
}

async function withReplica<Result>(
  directory: string,
  ports: RecoveryPorts,
  work: (open: OpenReplica) => Promise<Result>,
): Promise<Result> {
  const records = new FolderRecords(ports.disk, directory)
  const identity = await records.identity()
  const configuration = await records.configuration()
  if (!identity || !configuration) throw await noReplica(directory, ports.disk)
  const generations = await records.generations()
  const at = { directory: stateDirectory(directory, generations.state), schema: stateFormatVersion, trusted: false }
  try {
    // The state store is the lock: a running broker has it open.
    const store = await openStateStore({ engine: ports.engine, disk: ports.disk, ...at })
    try {
      const inForce = { directory, identity, generations, store, records }
      const found = { ...inForce, isShortOfSpace: false, onRot: () => {} }
      const recovered = await recover(found, configuration, ports, defaultReplicaLimits)
      try {
        const membership = recovered.memberships.at(-1)?.membership ?? aloneWith(unknownSelf(identity))
        const self = membersOf(membership).find(({ node }) => node === identity.node) ?? unknownSelf(identity)
        return await work({ directory, records, identity, configuration, recovered, membership, self })
      } finally {
        await recovered.log.close()
        await recovered.hardState.close()
      }
    } finally {
      await store.close()
    }
  } catch (error) {
    throw startError(error)
  }
}

/** Most likely a wrong path, so the error says what the right one looks like. */
async function noReplica(directory: string, disk: Disk): Promise<LedgerError> {
  const hint = 'Name what `broker --data` was given; with fast-try that is <data>/groups/<group>/<node>.'
  const names = await disk.list(directory).catch(() => [])
  if (names.length === 0)
    return new LedgerError('CONFIG_INVALID', `${directory} does not exist or is empty`, {}, { hint })
  return new LedgerError('FOREIGN_FOLDER', `${directory} is no data folder of a member`, {}, { hint })
}

function survivorOf({ directory, identity, configuration, recovered, membership }: OpenReplica): Survivor {
  const { log, boot } = recovered
  const { cluster, group, node } = identity
  const place = `${log.lastTerm}/${log.lastIndex}`
  return {
    directory,
    cluster,
    group,
    node,
    incarnation: configuration.incarnation,
    lastTerm: log.lastTerm,
    lastIndex: log.lastIndex,
    commitIndex: boot.hardState.commit,
    voters: membership.voters.map((voter) => voter.node),
    problem: problemOf(identity, recovered, membership),
    confirmation: `recover ${group} from ${node} at ${place}`,
  }
}

function problemOf(identity: Identity, recovered: Recovered, membership: Membership): string | null {
  const { damage, quarantine, lacksState, log, store } = recovered
  if (damage !== null) return damage
  // Only a copy of another member could bring it, and alone there is none: it would never lead, serve or propose.
  if (lacksState) return `its state is lost, and its log, which begins at ${log.firstIndex}, cannot bring it back`
  if (quarantine?.pending) return `its log is damaged: ${quarantine.reason}`
  // Nothing is left to be filled, so this is what no member has: only the state of one that had applied it gets past.
  const gap = log.holes.findLast(({ toIndex }) => toIndex > store.appliedIndex)
  if (gap) return `entry ${gap.toIndex} is lost, and its state, which ends at ${store.appliedIndex}, cannot get past it`
  if (!isMember(membership, identity)) return `node ${identity.node} is no member of its group: its log proves nothing`
  const isAlone = membership.voters.length === 1 && membership.outgoing.length === 0
  if (isAlone && membership.voters[0]?.node === identity.node) return 'this replica is the only voter: just start it'
  return null
}

function newIncarnation(before: FirstConfiguration, self: Member, incarnation: string): FirstConfiguration {
  const formerIncarnations = [...(before.formerIncarnations ?? []), before.incarnation]
  return { ...before, incarnation, formerIncarnations, members: [self] }
}

/** In a term of its own, so that no entry of the old group can stand at the same index and term. */
async function appendAlone(recovered: Recovered, self: Member, clock: Clock): Promise<void> {
  const { log, hardState, boot, lastStoreTime } = recovered
  const term = boot.hardState.term + 1
  await hardState.save({ term, vote: self.node, commit: boot.hardState.commit })
  append(log, { term, body: encodeMembership(aloneWith(self)), storeTime: Math.max(lastStoreTime, clock.wallMs()) })
  await log.flush()
}

/** There is nobody left who could make anything good; what cannot be read is lost. */
async function endQuarantine(records: FolderRecords, { quarantine, log }: Recovered): Promise<void> {
  if (!quarantine) return
  const holes = log.holes.map(({ fromIndex, toIndex }) => ({ fromIndex, toIndex }))
  const lost = [...quarantine.lost, ...holes]
  if (lost.length === 0) await records.removeQuarantine()
  else await records.saveQuarantine({ pending: false, untilLeaderReached: false, reason: '', lost })
}

function append(log: CommitLogApi, entry: { term: number; body: Buffer; storeTime: number }): void {
  const { term, body, storeTime } = entry
  log.append({ index: log.lastIndex + 1, term, type: frameTypes.configuration, storeTime, body: [body] })
}

function aloneWith(self: Member): Membership {
  return { voters: [self], outgoing: [], learners: [], returning: [], priorities: [], isForced: true }
}

function unknownSelf({ node, disk }: Identity): Member {
  return { node, disk, raftAddress: '' }
}

function invalid(reason: string): LedgerError {
  return new LedgerError('CONFIG_INVALID', reason)
}
