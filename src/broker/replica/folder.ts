/**
 * Opens a data folder: whose it is, the lock, and what can be believed of it. Called once by `broker.ts`.
 *
 * A folder that belongs to somebody else is left exactly as it was found: its identity is read before anything is
 * made, and only then is the state store opened, whose database is the lock against other processes.
 */
import { type Disk, openStateStore, SpaceReserve, type StateStoreApi, StoreError } from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import type { FirstConfiguration } from '../../rpc/methods.ts'
import { stateFormatVersion } from '../apply/meta.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf } from '../options.ts'
import { isPending } from './catch-up/incoming.ts'
import { type Generations, removeOthers, stateDirectory } from './generations.ts'
import { checkIdentity, FolderRecords, type Identity, uuid } from './identity.ts'

/** Times that the generations may change under the eyes of a starting process before it gives up. */
const generationReadsMax = 3

export interface Folder {
  readonly directory: string
  readonly records: FolderRecords
  readonly identity: Identity
  readonly configuration: FirstConfiguration | null
  /** In force when the folder was opened. */
  readonly generations: Generations
  readonly store: StateStoreApi
  /** For the time when the disk is full. */
  readonly reserve: SpaceReserve
  /** Nothing worse than the death of the process happened since the last start. */
  readonly trusted: boolean
  /** Leaves the mark of a clean stop; everything else must be closed. */
  markClean(): Promise<void>
}

/** Rejects with FOREIGN_FOLDER or FOLDER_IN_USE before anything in the folder was changed. */
export async function openFolder(options: BrokerOptions, ports: BrokerPorts): Promise<Folder> {
  const { directory } = options
  const records = new FolderRecords(ports.disk, directory, () => reserve.give())
  const found = await records.identity()
  if (found) checkIdentity(found, options, directory)
  const marker = await records.startMarker()
  const bootId = await ports.bootId()
  const trusted = marker !== null && (marker.clean || (bootId !== null && marker.bootId === bootId))
  await makeDurably(ports.disk, directory)
  const reserve = await SpaceReserve.open(ports.disk, `${directory}/reserve`, limitsOf(options).reserveBytes)
  const { generations, store } = await openInForce(records, { directory, trusted, reserve }, ports)
  try {
    await reserve.giveIfTight()
    await removeOthers(ports, directory, await inUse(records, generations))
    const identity = found ?? (await createIdentity(records, options, ports))
    await records.saveStartMarker({ bootId, clean: false })
    return {
      directory,
      records,
      identity,
      configuration: await records.configuration(),
      generations,
      store,
      reserve,
      trusted,
      markClean: () => records.saveStartMarker({ bootId, clean: true }),
    }
  } catch (error) {
    await store.close()
    throw error
  }
}

/**
 * Opens the state store of one generation, whose database is also the lock of the folder. A database that finds no
 * space to open is opened once more when the reserve was given back.
 */
export async function openState(
  at: {
    readonly directory: string
    readonly generation: number
    readonly trusted: boolean
    readonly reserve: SpaceReserve
  },
  ports: BrokerPorts,
): Promise<StateStoreApi> {
  const open = (): Promise<StateStoreApi> =>
    openStateStore({
      makeSpace: () => at.reserve.give(),
      engine: ports.engine,
      disk: ports.disk,
      directory: stateDirectory(at.directory, at.generation),
      trusted: at.trusted,
      schema: stateFormatVersion,
    })
  try {
    return await open()
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') throw error
    // The lock was had, so the reserve is nobody else's.
    await at.reserve.give()
    return open()
  }
}

/** What is in force, and the copy that is under way. */
async function inUse(records: FolderRecords, inForce: Generations): Promise<readonly Generations[]> {
  const incoming = await records.incoming()
  return incoming && isPending(incoming, inForce) ? [inForce, incoming] : [inForce]
}

interface InForce {
  readonly generations: Generations
  readonly store: StateStoreApi
}

/** The record is read again under the lock: a process that still runs may have put another generation in force. */
async function openInForce(
  records: FolderRecords,
  at: { readonly directory: string; readonly trusted: boolean; readonly reserve: SpaceReserve },
  ports: BrokerPorts,
): Promise<InForce> {
  let generations = await records.generations()
  for (let attempt = 1; attempt <= generationReadsMax; attempt++) {
    const store = await openState({ ...at, generation: generations.state }, ports)
    const current = await records.generations()
    if (current.log === generations.log && current.state === generations.state) return { generations, store }
    await store.close()
    generations = current
  }
  throw new LedgerError('FOLDER_IN_USE', `${at.directory} changes while it is opened`)
}

/**
 * A power cut right after the bootstrap must not take the folder along: its entry is synced, and those of the two
 * folders above it, which may have been made with it (`<data>/groups/<group>`).
 */
async function makeDurably(disk: Disk, directory: string): Promise<void> {
  await disk.makeDirectory(directory)
  const parts = directory.split('/')
  const root = directory.startsWith('/') ? '/' : '.'
  for (let depth = 1; depth <= 3 && depth <= parts.length; depth++) {
    await disk.syncDirectory(parts.slice(0, -depth).join('/') || root)
  }
}

async function createIdentity(records: FolderRecords, options: BrokerOptions, ports: BrokerPorts): Promise<Identity> {
  const { cluster, group, node } = options
  const identity: Identity = { cluster, group, node, disk: uuid(ports.random) }
  await records.saveIdentity(identity)
  return identity
}
