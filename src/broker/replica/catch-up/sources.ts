/**
 * The other members as places to copy from: asked what they have, in turn, with a pause after each failure. Owned by
 * whoever copies (`catch-up.ts`, `repairer.ts`); it decides nothing about what is copied.
 *
 * The leader comes last: it has the group to serve.
 */
import type { Clock } from '../../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../../common/errors.ts'
import {
  type FetchLogReply,
  type FetchStateReply,
  type FetchStateRequest,
  type Hello,
  type Member,
  raftMethods,
} from '../../../rpc/methods.ts'
import type { Channel, StreamHandlers, StreamSink, Transport } from '../../../rpc/transport.ts'
import type { CopySourceView } from './planner.ts'

/** A source gives a piece of log or state within this, or another one is asked: other members wait for the copy. */
export const pieceMs = 10_000
/** What a source has is in its memory: one that needs longer to say it is not well, and holds up the copy. */
const describeMs = 1000
const pauseMinMs = 100
const pauseMaxMs = 5000
/** Whoever is waited for in vain is left alone for so many times as long, so that the others go on meanwhile. */
const restFactor = 4

export interface SourcesPorts {
  readonly clock: Clock
  readonly transport: Transport
  /** Most bytes of one reply; a single longer entry comes alone. */
  readonly bytesMax: number
  /** The others, as the newest membership has them. */
  members(): readonly Member[]
  hello(to: Member): Hello
}

interface Source {
  readonly member: Member
  readonly channel: Channel
  view: CopySourceView | null
  problem: LedgerError | null
  pauseMs: number
  retryAtMs: number
}

export class Sources {
  readonly #ports: SourcesPorts
  readonly #sources = new Map<string, Source>()

  constructor(ports: SourcesPorts) {
    this.#ports = ports
  }

  /** Asks everybody who may be asked; those that answered, preferred ones first. */
  async describe(signal: AbortSignal): Promise<readonly CopySourceView[]> {
    this.#follow()
    const nowMs = this.#ports.clock.monotonicMs()
    const asked = [...this.#sources.values()].filter(({ retryAtMs }) => retryAtMs <= nowMs)
    await Promise.all(asked.map((source) => this.#describe(source, signal)))
    return asked.flatMap(({ view }) => view ?? []).sort((a, b) => Number(a.leads) - Number(b.leads))
  }

  /** Nodes of the membership that gave no answer when last asked, with the reason. */
  get silent(): readonly { readonly node: string; readonly problem: string }[] {
    return [...this.#sources.values()].flatMap(({ member, view, problem }) =>
      view ? [] : [{ node: member.node, problem: problem?.message ?? 'not asked yet' }],
    )
  }

  get nodes(): readonly string[] {
    this.#follow()
    return [...this.#sources.keys()]
  }

  async fetchLog(
    node: string,
    range: { readonly fromIndex: number; readonly toIndex: number; readonly uncommitted: boolean },
    signal: AbortSignal,
  ): Promise<FetchLogReply> {
    const { channel, member } = this.#known(node)
    const request = { ...range, hello: this.#ports.hello(member), bytesMax: this.#ports.bytesMax }
    return channel.call(raftMethods.fetchLog, request, { timeoutMs: pieceMs, signal })
  }

  openState(
    node: string,
    handlers: StreamHandlers<FetchStateReply>,
  ): { readonly sink: StreamSink<FetchStateRequest>; readonly first: FetchStateRequest } {
    const { channel, member } = this.#known(node)
    const first = { hello: this.#ports.hello(member), bytesMax: this.#ports.bytesMax }
    return { sink: channel.open(raftMethods.fetchState, handlers), first }
  }

  /** This one failed, `waitedMs` after it was asked: it is left alone for a while, longer each time. */
  failed(node: string, error: unknown, waitedMs: number = 0): void {
    const source = this.#sources.get(node)
    if (!source) return
    source.problem = toLedgerError(error)
    source.view = null
    source.retryAtMs = this.#ports.clock.monotonicMs() + Math.max(source.pauseMs, waitedMs * restFactor)
    source.pauseMs = Math.min(source.pauseMs * 2, pauseMaxMs)
  }

  /** This one gave what was asked of it. */
  served(node: string): void {
    const source = this.#sources.get(node)
    if (source) source.pauseMs = pauseMinMs
  }

  close(): void {
    for (const { channel } of this.#sources.values()) channel.close()
    this.#sources.clear()
  }

  async #describe(source: Source, signal: AbortSignal): Promise<void> {
    const { member, channel } = source
    const { clock } = this.#ports
    const startMs = clock.monotonicMs()
    try {
      const hello = this.#ports.hello(member)
      const reply = await channel.call(raftMethods.describeLog, { hello }, { timeoutMs: describeMs, signal })
      const origin = reply.origin ?? { position: 0, index: 0, term: 0, checksum: 0 }
      source.view = { ...reply, origin, node: member.node }
      source.problem = null
    } catch (error) {
      this.failed(member.node, error, clock.monotonicMs() - startMs)
    }
  }

  /** Members come, go and move while a copy runs. */
  #follow(): void {
    const members = new Map(this.#ports.members().map((member) => [member.node, member]))
    for (const [node, { member, channel }] of this.#sources) {
      const now = members.get(node)
      if (now?.disk === member.disk && now.raftAddress === member.raftAddress) continue
      channel.close()
      this.#sources.delete(node)
    }
    for (const [node, member] of members) {
      if (this.#sources.has(node)) continue
      const channel = this.#ports.transport.connect(member.raftAddress, 'bulk')
      this.#sources.set(node, { member, channel, view: null, problem: null, pauseMs: pauseMinMs, retryAtMs: 0 })
    }
  }

  #known(node: string): Source {
    const source = this.#sources.get(node)
    if (!source) throw new LedgerError('UNAVAILABLE', `${node} is no member any more`)
    return source
  }
}
