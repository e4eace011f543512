/**
 * Gives a peer what it lacks: committed entries of the own log and an image of the own state. Registered on the raft
 * listener by `broker.ts`; whether this node leads does not matter.
 *
 * Only bytes that pass their checks leave (S3); an entry that is rotten here is said to be so, never skipped. Work is
 * bounded: pieces of at most 1 MiB, few readers at once, so that serving a copy never holds up the group.
 */
import {
  type CommitLogApi,
  type Frame,
  frameTypes,
  type LogOrigin,
  type StateImage,
  StoreError,
} from '../../../store/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import {
  type DescribeLogReply,
  type FetchLogReply,
  type FetchLogRequest,
  type FetchStateReply,
  type FetchStateRequest,
  type Hello,
  type LogRange,
  raftMethods,
} from '../../rpc/methods.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import { failureOf } from '../handler/failure.ts'
import { encodeRows, RowProof } from './catch-up/state-rows.ts'
import type { Recovered } from './recovery.ts'

/** Most bytes of one reply; a single longer entry comes alone. */
const copyBytesMax = 1024 * 1024
/** Calls that read the log at once, and streams that hold an image. */
const readersMax = 2
/** What a caller is told to wait when as many read as may, milliseconds. */
const retryAfterMs = 100
/** An image costs space while it is open: whoever asks for nothing this long loses it, milliseconds. */
const idleMsMax = 30_000

/** What a running replica has to give. */
export interface CopySource {
  readonly log: CommitLogApi
  readonly commitIndex: number
  /** Everything the state store holds; 0 when no copy may begin here. */
  readonly appliedIndex: number
  readonly leads: boolean
  /** Where a copy of the log begins: behind what no member can give any more. */
  readonly origin: LogOrigin
  image(): Promise<StateImage>
}

/** What a replica gives as it is now; `lost` are the entries that no member has. */
export function copySourceOf(
  recovered: Recovered,
  now: { readonly committed: number; readonly leads: boolean; readonly lost: readonly LogRange[] },
): CopySource {
  const { log, store, lacksState, lostFront } = recovered
  // A copy that began where this log begins would take the loss for a trim.
  const appliedIndex = lacksState || lostFront !== null ? 0 : store.appliedIndex
  return {
    log,
    commitIndex: now.committed,
    appliedIndex,
    leads: now.leads,
    origin: copyOrigin(log, now.lost, appliedIndex),
    image: () => store.image(),
  }
}

/**
 * A copy cannot get past lost entries, but it can begin behind them, at a segment, when a state covers what it leaves
 * out. Until there is such a segment it begins where the log does, and waits at the lost entries.
 */
export function copyOrigin(
  log: Pick<CommitLogApi, 'origin' | 'originBehind'>,
  lost: readonly LogRange[],
  appliedIndex: number,
): LogOrigin {
  const lostTo = Math.max(0, ...lost.map(({ toIndex }) => toIndex))
  if (lostTo <= log.origin.index) return log.origin
  const behind = log.originBehind(lostTo)
  return behind && behind.index <= appliedIndex ? behind : log.origin
}

export interface CopyServerPorts {
  readonly clock: Clock
  /** Throws WRONG_CLUSTER or SERVICE_NOT_AVAILABLE when this caller may not have it, or there is nothing to have. */
  source(hello: Hello | undefined): CopySource
}

export function registerCopyServer(routes: ServerRoutes, ports: CopyServerPorts): void {
  const logReaders = new Readers()
  const imageReaders = new Readers()
  routes.unary(raftMethods.describeLog, async ({ hello }) => describe(ports.source(hello)))
  routes.unary(raftMethods.fetchLog, async (request) => {
    const source = ports.source(request.hello)
    return logReaders.during(() => fetchLog(source, request))
  })
  routes.stream(raftMethods.fetchState, (sink) => {
    const stream = new StateStream(sink, ports, imageReaders)
    return {
      onMessage: (request) => stream.onMessage(request),
      onClosed: (error) => {
        stream.stop()
        if (error === undefined) sink.end()
      },
    } satisfies StreamHandlers<FetchStateRequest>
  })
}

class Readers {
  #count = 0

  /** Throws FLOW_CONTROL when as many read as may. */
  enter(): void {
    if (this.#count >= readersMax) {
      throw new LedgerError('FLOW_CONTROL', `${readersMax} replicas copy from this one`, { retryAfterMs })
    }
    this.#count++
  }

  leave(): void {
    this.#count--
  }

  async during<Value>(work: () => Promise<Value>): Promise<Value> {
    this.enter()
    try {
      return await work()
    } finally {
      this.leave()
    }
  }
}

function describe(source: CopySource): DescribeLogReply {
  const { log, appliedIndex, leads } = source
  const { position, index, term, checksum } = source.origin
  return {
    firstIndex: index + 1,
    origin: { position, index, term, checksum },
    lastIndex: lastOf(source, false),
    endPosition: log.endPosition,
    appliedIndex,
    leads,
  }
}

async function fetchLog(source: CopySource, request: FetchLogRequest): Promise<FetchLogReply> {
  const { log } = source
  const to = Math.min(request.toIndex, lastOf(source, request.uncommitted))
  const from = request.fromIndex
  const known = { firstIndex: log.firstIndex, lastIndex: lastOf(source, false), endPosition: log.endPosition }
  if (from < log.firstIndex || from > to) return { ...known, frames: Buffer.alloc(0) }
  try {
    const read = await log.read(from, to, Math.min(Math.max(1, request.bytesMax), copyBytesMax))
    return { ...known, frames: joined(read) }
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    // Trimmed or cut while it was read: what is known now says so.
    if (error.code === 'OUT_OF_RANGE') return { ...known, firstIndex: log.firstIndex, frames: Buffer.alloc(0) }
    if (error.code !== 'ROTTEN') throw failureOf(error)
    const hole = log.holes.find(({ fromIndex, toIndex }) => fromIndex <= from && from <= toIndex)
    // The second look at the disk found it whole. Said to be rotten, it might be lost for the one who asks.
    if (!hole) throw new LedgerError('SERVICE_NOT_AVAILABLE', `entry ${from} cannot be read now: ${error.message}`)
    const { fromIndex, toIndex } = hole
    return { ...known, frames: Buffer.alloc(0), rotten: { fromIndex, toIndex } }
  }
}

/** Nothing that a new leader may still replace is handed out, unless the caller proves it by its own chain. */
function lastOf({ log, commitIndex }: CopySource, uncommitted: boolean): number {
  return uncommitted ? log.durableIndex : Math.min(commitIndex, log.durableIndex)
}

/** Entries only: every replica lays out padding by itself. */
function joined(frames: readonly Frame[]): Buffer {
  return Buffer.concat(frames.filter(({ header }) => header.type !== frameTypes.padding).map(({ bytes }) => bytes))
}

/** One image for one caller, a piece for each request. */
class StateStream {
  readonly #sink: StreamSink<FetchStateReply>
  readonly #ports: CopyServerPorts
  readonly #readers: Readers
  readonly #proof = new RowProof()
  #image: Promise<StateImage> | null = null
  #busy = false
  #stopped = false
  #idle: Cancel = () => {}

  constructor(sink: StreamSink<FetchStateReply>, ports: CopyServerPorts, readers: Readers) {
    this.#sink = sink
    this.#ports = ports
    this.#readers = readers
    this.#awaitRequest()
  }

  onMessage(request: FetchStateRequest): void {
    if (this.#stopped) return
    if (this.#busy) {
      this.#break(new LedgerError('INVALID_REQUEST', 'a request came before the reply to the last one'))
      return
    }
    this.#busy = true
    this.#idle()
    this.#answer(request).catch((error: unknown) => this.#break(failureOf(error)))
  }

  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#idle()
    if (!this.#image) return
    this.#readers.leave()
    void this.#image.then((image) => image.close()).catch(() => {})
  }

  async #answer(request: FetchStateRequest): Promise<void> {
    this.#image ??= this.#open(request.hello)
    const image = await this.#image
    const rows = this.#stopped ? null : await image.next(Math.min(Math.max(1, request.bytesMax), copyBytesMax))
    if (this.#stopped) return
    const bytes = encodeRows(rows ?? [])
    this.#proof.add(bytes, rows?.length ?? 0)
    const { appliedIndex, hash } = image
    const { checksum, rowCount } = this.#proof
    this.#busy = false
    this.#sink.write({ appliedIndex, hash, rows: bytes, checksum, rowCount, last: rows === null })
    this.#awaitRequest()
  }

  #open(hello: Hello | undefined): Promise<StateImage> {
    const source = this.#ports.source(hello)
    if (source.appliedIndex === 0) throw new LedgerError('SERVICE_NOT_AVAILABLE', 'this replica has no state to give')
    this.#readers.enter()
    return source.image()
  }

  #awaitRequest(): void {
    const error = new LedgerError('DEADLINE_EXCEEDED', `no request came for ${idleMsMax} ms`)
    this.#idle = this.#ports.clock.after(idleMsMax, () => this.#break(error), { background: true })
  }

  #break(error: LedgerError): void {
    if (this.#stopped) return
    this.stop()
    this.#sink.cancel(error)
  }
}
