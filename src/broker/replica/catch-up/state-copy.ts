/**
 * Fills a new state store with the image of a peer, piece by piece. Called by `catch-up.ts`.
 *
 * All pieces are of one image, and all of them have to come: a copy that is cut short is begun again, because no two
 * images are the same. Nothing is believed before the last piece proved the whole.
 */
import { installStateStore, type StateDirectory, type StateInstall } from '../../../../store/index.ts'
import type { Clock } from '../../../common/clock.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { FetchStateReply, FetchStateRequest } from '../../../rpc/methods.ts'
import type { StreamSink } from '../../../rpc/transport.ts'
import { pieceMs, type Sources } from './sources.ts'
import { decodeRows, RowProof } from './state-rows.ts'

/** A source whose disk hangs gives no answer, and its connection lives on: no longer than for a piece of the log. */
export const answerMsMax: number = pieceMs

export interface StateCopyParts {
  readonly clock: Clock
  readonly sources: Pick<Sources, 'openState'>
  readonly node: string
  readonly place: StateDirectory
  readonly signal: AbortSignal
  /** Bytes came; goes on when fulfilled. */
  received(bytes: number): Promise<void>
}

/** The index that the state stands for, once it is durable. */
export async function copyState(parts: StateCopyParts): Promise<number> {
  const image = new RemoteImage(parts)
  let install: StateInstall | null = null
  try {
    const proof = new RowProof()
    let reply = await image.next()
    const { appliedIndex, hash } = reply
    install = await installStateStore(parts.place, { appliedIndex, hash })
    for (;;) {
      if (reply.appliedIndex !== appliedIndex || reply.hash !== hash) throw mixed()
      const rows = decodeRows(reply, proof)
      if (rows.length > 0) await install.put(rows)
      await parts.received(reply.rows.length)
      if (reply.last) break
      reply = await image.next()
    }
    await install.finish()
    return appliedIndex
  } finally {
    image.close()
    await install?.close()
  }
}

function mixed(): LedgerError {
  return new LedgerError('INVALID_REQUEST', 'the pieces are of more than one state image')
}

/** The stream as questions and answers, one at a time. */
class RemoteImage {
  readonly #sink: StreamSink<FetchStateRequest>
  readonly #signal: AbortSignal
  readonly #clock: Clock
  #request: FetchStateRequest
  #waiting: { resolve(reply: FetchStateReply): void; reject(error: unknown): void } | null = null
  #ended: LedgerError | null = null

  constructor({ clock, sources, node, signal }: StateCopyParts) {
    this.#clock = clock
    const { sink, first } = sources.openState(node, {
      onMessage: (reply) => {
        const waiting = this.#waiting
        this.#waiting = null
        waiting?.resolve(reply)
      },
      onClosed: (error) => this.#end(error ?? new LedgerError('UNAVAILABLE', 'the state image ended too early')),
    })
    this.#sink = sink
    this.#signal = signal
    this.#request = first
    signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  next(): Promise<FetchStateReply> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#ended)
        return
      }
      const cancelTimer = this.#clock.after(answerMsMax, () => this.#giveUp(), { background: true })
      this.#waiting = {
        resolve: (reply) => {
          cancelTimer()
          resolve(reply)
        },
        reject: (error) => {
          cancelTimer()
          reject(error)
        },
      }
      this.#sink.write(this.#request)
      this.#request = { bytesMax: this.#request.bytesMax }
    })
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (!this.#ended) this.#sink.cancel()
  }

  #giveUp(): void {
    this.#end(new LedgerError('DEADLINE_EXCEEDED', `no piece of the state came for ${answerMsMax} ms`))
    this.#sink.cancel()
  }

  readonly #onAbort = (): void => this.#end(new LedgerError('ABORTED', 'the copy was stopped'))

  #end(error: LedgerError): void {
    this.#ended ??= error
    this.#waiting?.reject(error)
    this.#waiting = null
  }
}
