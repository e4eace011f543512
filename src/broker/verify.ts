/**
 * Compares the logs of stopped replicas of one group: everything that any of them knows to be committed must be the
 * same bytes on all of them (S2). Called by `ledgermq debug verify`; changes nothing in the folders.
 */
import { createHash } from 'node:crypto'
import {
  type Disk,
  frameTypes,
  inspectCommitLog,
  type KeyValueEngine,
  openHardState,
  openStateStore,
} from '../../store/index.ts'
import { LedgerError } from '../common/errors.ts'
import type { FirstConfiguration } from '../rpc/methods.ts'
import { stateFormatVersion } from './apply/meta.ts'
import { type Generations, logDirectory, stateDirectory } from './replica/generations.ts'
import { FolderRecords, type Identity } from './replica/identity.ts'
import { startError } from './start-error.ts'

export interface VerifiedReplica {
  readonly directory: string
  readonly node: string
  /** First entry that its log still has. */
  readonly firstIndex: number
  readonly lastIndex: number
  /** Highest index that this replica knew to be committed. */
  readonly commitIndex: number
  readonly sha256: string
  /** Why it lacks entries that it had once on its disk, null when it has them all. */
  readonly defect: string | null
}

export interface VerifyResult {
  /** Begin of the compared range: the first entry that all replicas still have. */
  readonly firstIndex: number
  /** End of the compared range: committed according to one replica, and present on all that lost nothing. */
  readonly commitIndex: number
  /** Bytes compared on each replica. */
  readonly bytes: number
  readonly sha256: string
  readonly equal: boolean
  readonly replicas: readonly VerifiedReplica[]
}

interface Subject {
  readonly directory: string
  readonly identity: Identity
  readonly configuration: FirstConfiguration
  readonly generations: Generations
  readonly commitIndex: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly defect: string | null
}

/** Rejects with FOREIGN_FOLDER when the folders do not belong together, FOLDER_IN_USE when one is running. */
export async function verifyReplicas(
  directories: readonly string[],
  ports: { readonly disk: Disk; readonly engine: KeyValueEngine },
): Promise<VerifyResult> {
  try {
    return await compare(directories, ports)
  } catch (error) {
    throw startError(error)
  }
}

async function compare(
  directories: readonly string[],
  ports: { readonly disk: Disk; readonly engine: KeyValueEngine },
): Promise<VerifyResult> {
  const subjects: Subject[] = []
  for (const directory of directories) subjects.push(await examine(directory, ports))
  assertOneGroup(subjects)
  const known = Math.max(...subjects.map((subject) => subject.commitIndex))
  // A replica that is late has less to compare. One that lost what it had must not shorten the range: it differs.
  const sound = subjects.filter((subject) => subject.defect === null)
  const commitIndex = Math.min(known, ...sound.map((subject) => subject.lastIndex))
  const firstIndex = Math.max(...subjects.map((subject) => subject.firstIndex))
  const hashes: { readonly sha256: string; readonly bytes: number }[] = []
  for (const subject of subjects) hashes.push(await hashOf(subject, { firstIndex, commitIndex }, ports.disk))
  const model =
    hashes[
      Math.max(
        0,
        subjects.findIndex((subject) => subject.defect === null),
      )
    ]
  return {
    firstIndex,
    commitIndex,
    bytes: model?.bytes ?? 0,
    sha256: model?.sha256 ?? '',
    equal: sound.length === subjects.length && hashes.every((hash) => hash.sha256 === model?.sha256),
    replicas: subjects.map(
      ({ directory, identity, firstIndex: begin, lastIndex, commitIndex: own, defect }, index) => ({
        directory,
        node: identity.node,
        firstIndex: begin,
        lastIndex,
        commitIndex: own,
        sha256: hashes[index]?.sha256 ?? '',
        defect,
      }),
    ),
  }
}

async function examine(
  directory: string,
  { disk, engine }: { readonly disk: Disk; readonly engine: KeyValueEngine },
): Promise<Subject> {
  const records = new FolderRecords(disk, directory)
  const identity = await records.identity()
  const configuration = await records.configuration()
  if (!identity || !configuration) throw new LedgerError('FOREIGN_FOLDER', `${directory} is no data folder of a broker`)
  const generations = await records.generations()
  // The state store is the lock: a running broker has it open.
  const store = await openStateStore({
    engine,
    disk,
    directory: stateDirectory(directory, generations.state),
    schema: stateFormatVersion,
    trusted: true,
  })
  try {
    const hardState = await openHardState(disk, `${directory}/hard-state`)
    const commitIndex = Math.max(hardState.current?.commit ?? 0, store.appliedIndex)
    await hardState.close()
    const place = locate({ directory, configuration, generations })
    const { firstIndex, lastIndex, holes, tail } = await inspectCommitLog(disk, place, () => {})
    const isShort = lastIndex < commitIndex
    const defect =
      (holes[0] ?? tail)?.reason ?? (isShort ? `its log ends before entry ${commitIndex}, which it committed` : null)
    return { directory, identity, configuration, generations, commitIndex, firstIndex, lastIndex, defect }
  } finally {
    await store.close()
  }
}

function assertOneGroup(subjects: readonly Subject[]): void {
  const [first] = subjects
  const stranger = subjects.find((subject) => subject.configuration.incarnation !== first?.configuration.incarnation)
  if (stranger && first)
    throw new LedgerError(
      'FOREIGN_FOLDER',
      `${stranger.directory} and ${first.directory} belong to different broker groups or incarnations`,
    )
}

/** Entries one behind the other, and the padding between them, which their positions account for. */
async function hashOf(
  subject: Subject,
  range: { readonly firstIndex: number; readonly commitIndex: number },
  disk: Disk,
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  let start = -1
  await inspectCommitLog(disk, locate(subject), ({ header, bytes: frame }) => {
    if (header.index < range.firstIndex || header.index > range.commitIndex) return
    if (header.type === frameTypes.padding) return
    if (start < 0) start = header.position
    hash.update(frame)
    bytes = header.position + header.frameLength - start
  })
  return { sha256: hash.digest('hex'), bytes }
}

function locate({
  directory,
  configuration,
  generations,
}: Pick<Subject, 'directory' | 'configuration' | 'generations'>): Parameters<typeof inspectCommitLog>[1] {
  const { segmentBytes, incarnation, formerIncarnations = [] } = configuration
  return { directory: logDirectory(directory, generations.log), segmentBytes, incarnation, formerIncarnations }
}
