/**
 * The way of log entries to one peer: a bounded queue of appends that gets its frames from memory or, for a peer that
 * lags, from disk, strictly first in, first out. Owned by `peers.ts`.
 *
 * When the peer cannot take them they are dropped and the core is told, which then probes; the queue never grows
 * beyond its limit.
 */
import type { Append } from '../../../raft/index.ts'
import { type CommitLogApi, type Frame, frameTypes } from '../../../store/index.ts'
import type { Logger } from '../../common/logger.ts'
import type { LogRange } from '../../rpc/methods.ts'
import type { PeerLink } from './peer-link.ts'

/**
 * So much of an append leaves in one message, and what is behind it in the next. Only entries whose size the core does
 * not know (`raft/README.md`) come to more: sixteen of them may be larger than any message that a peer takes.
 */
const pieceBytesMax = 4 * 1024 * 1024

export interface BulkLanePorts {
  readonly link: PeerLink
  readonly log: CommitLogApi
  readonly bytesMax: number
  readonly logger: Logger
  encode(message: Append, frames: readonly Frame[]): Buffer
  /** Entries for the peer are not in memory, and the disk does not give them. Said at every attempt. */
  unreadable(range: LogRange): void
  /** Appends were dropped; said once until the lane works again. */
  unreachable(): void
}

export class BulkLane {
  readonly #ports: BulkLanePorts
  #queue: Append[] = []
  #bytes = 0
  #reading = false
  #reported = false

  constructor(ports: BulkLanePorts) {
    this.#ports = ports
  }

  send(message: Append): void {
    const bytes = bytesOf(message)
    if (!this.#ports.link.up || (this.#queue.length > 0 && this.#bytes + bytes > this.#ports.bytesMax)) {
      this.drop()
      return
    }
    this.#queue.push(message)
    this.#bytes += bytes
    this.flush()
  }

  /** The stream is up or can take more. */
  flush(): void {
    while (this.#queue.length > 0 && !this.#reading && this.#ports.link.up && !this.#ports.link.congested) {
      const message = this.#queue[0] as Append
      const frames = cachedFrames(this.#ports.log, message)
      if (frames) this.#write(message, frames)
      else void this.#readAndWrite(message)
    }
  }

  /** Forgets what waits; the core starts over by probing. */
  drop(): void {
    this.#queue = []
    this.#bytes = 0
    if (this.#reported) return
    this.#reported = true
    this.#ports.unreachable()
  }

  async #readAndWrite(message: Append): Promise<void> {
    this.#reading = true
    let frames: readonly Frame[] | null = null
    const { prevIndex, entries } = message
    try {
      frames = await readFrames(this.#ports.log, message)
    } catch (error) {
      // Cut by retention or truncation meanwhile, or rotten here: the peer must get it another way.
      this.#ports.logger.warn('entries for a peer could not be read', { error, from: prevIndex + 1 })
      const fromIndex = guesses(this.#ports.log, message) ? prevIndex : prevIndex + 1
      this.#ports.unreadable({ fromIndex, toIndex: prevIndex + entries.length })
    }
    this.#reading = false
    // The lane may have been dropped while the disk was read.
    if (this.#queue[0] === message) {
      if (frames) this.#write(message, frames)
      else this.drop()
    }
    this.flush()
  }

  /** `frames` are those of the first entries, or of all. */
  #write(message: Append, frames: readonly Frame[]): void {
    this.#queue.shift()
    this.#bytes -= bytesOf(message)
    const { piece, rest } = split(message, frames.length)
    // A truncation may have replaced entries since the core made the message: then nobody waits for it any more.
    if (!matches(piece, frames)) return
    if (rest) {
      this.#queue.unshift(rest)
      this.#bytes += bytesOf(rest)
    }
    if (this.#ports.link.write(this.#ports.encode(piece, frames))) this.#reported = false
    else this.drop()
  }
}

function bytesOf(message: Append): number {
  return message.entries.reduce((sum, entry) => sum + entry.bytes, 0)
}

/**
 * True when the message follows an entry that is lost here, of a term that nobody here knows. A peer that has it would
 * take the guess for a contradiction of what it knows to be committed (R6).
 */
function guesses(log: CommitLogApi, { prevIndex }: Append): boolean {
  return log.holes.some(
    ({ fromIndex, toIndex, termsKnown }) => !termsKnown && fromIndex <= prevIndex && prevIndex <= toIndex,
  )
}

/** The first `count` entries, and an append of those behind them, null when there are none. */
function split(message: Append, count: number): { readonly piece: Append; readonly rest: Append | null } {
  const { entries } = message
  const last = entries[count - 1]
  if (!last || count >= entries.length) return { piece: message, rest: null }
  const rest = { ...message, prevIndex: last.index, prevTerm: last.term, entries: entries.slice(count) }
  return { piece: { ...message, entries: entries.slice(0, count) }, rest }
}

/**
 * The first frames of the message, as many as leave at once; undefined when one of them is not in memory, or when it
 * must not be sent as it is.
 */
function cachedFrames(log: CommitLogApi, message: Append): readonly Frame[] | undefined {
  if (guesses(log, message)) return undefined
  const wanted = message.entries.length
  const bytesMax = Math.max(1, bytesOf(message))
  const found: Frame[] = []
  while (!isPiece(found, wanted)) {
    const more = log.cached(message.prevIndex + 1 + found.length, bytesMax)
    if (!more || !take(found, more, wanted)) return undefined
  }
  return found
}

async function readFrames(log: CommitLogApi, message: Append): Promise<readonly Frame[]> {
  if (guesses(log, message)) throw new RangeError(`nobody here knows the term of entry ${message.prevIndex}`)
  const wanted = message.entries.length
  const bytesMax = Math.max(1, bytesOf(message))
  const found: Frame[] = []
  while (!isPiece(found, wanted)) {
    const more = await log.read(message.prevIndex + 1 + found.length, message.prevIndex + wanted, bytesMax)
    if (!take(found, more, wanted)) throw new RangeError(`entry ${message.prevIndex + 1 + found.length} is missing`)
  }
  return found
}

function isPiece(found: readonly Frame[], wanted: number): boolean {
  return found.length >= wanted || found.reduce((sum, { bytes }) => sum + bytes.length, 0) >= pieceBytesMax
}

/** Adds entries (never padding, which each replica lays out itself); false when there was none. */
function take(found: Frame[], more: readonly Frame[], wanted: number): boolean {
  const before = found.length
  for (const frame of more) {
    if (found.length < wanted && frame.header.type !== frameTypes.padding) found.push(frame)
  }
  return found.length > before
}

function matches(message: Append, frames: readonly Frame[]): boolean {
  return message.entries.every((entry, at) => {
    const header = frames[at]?.header
    return header?.index === entry.index && header.term === entry.term
  })
}
