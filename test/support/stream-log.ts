/** Collects what comes down a stream, for tests that wait for it. */
import type { LedgerError } from '../../src/common/errors.ts'
import type { StreamHandlers } from '../../src/rpc/transport.ts'
import { eventually } from './eventually.ts'

export class StreamLog<Message> implements StreamHandlers<Message> {
  readonly messages: Message[] = []
  closed = false
  error: LedgerError | undefined

  onMessage(message: Message): void {
    this.messages.push(message)
  }

  onClosed(error: LedgerError | undefined): void {
    this.closed = true
    this.error = error
  }

  get last(): Message | undefined {
    return this.messages.at(-1)
  }

  /** Waits until this many messages have come in all. */
  async count(count: number): Promise<readonly Message[]> {
    await eventually(`message ${count}`, () => this.messages.length >= count, { state: () => this.messages.length })
    return this.messages
  }

  async end(): Promise<LedgerError | undefined> {
    await eventually('the end of the stream', () => this.closed)
    return this.error
  }
}
