/**
 * What replicas send each other on the Control and Bulk streams (`raft.proto`), read and written by hand.
 *
 * Used by `broker/replica/peers.ts`. The log frames of an append travel as one byte string, exactly as they lie on
 * disk; this file does not look inside them. Malformed input throws a LedgerError INVALID_REQUEST.
 */
import type { PeerMessage } from '../../raft/index.ts'
import type { WireStatus } from './methods.ts'

export interface Hello {
  readonly cluster: string
  readonly group: string
  readonly incarnation: string
  readonly fromNode: string
  readonly fromDisk: string
  readonly toNode: string
  readonly toDisk: string
  /** Where clients reach the sender. */
  readonly fromAddress: string
  readonly protocolMin: number
  readonly protocolMax: number
  readonly build: string
  readonly featureLevel: number
}

export interface HelloReply {
  readonly status: WireStatus | null
  readonly protocol: number
  readonly build: string
  readonly featureLevel: number
}

/**
 * `frames` are the encoded log frames of an append, empty for every other message. A decoded append has empty
 * `entries`: the receiver makes the descriptors from the frames, after it has checked them.
 */
export type PeerFrame =
  | { readonly kind: 'hello'; readonly hello: Hello }
  | {
      readonly kind: 'message'
      readonly message: PeerMessage
      readonly wallMs: number
      readonly frames: readonly Buffer[]
    }

export declare function encodePeerFrame(frame: PeerFrame): Buffer
/** `from` and `to` of a decoded message are the ones of the stream's Hello. */
export declare function decodePeerFrame(
  bytes: Buffer,
  stream: { readonly from: string; readonly to: string },
): PeerFrame
export declare function encodeHelloReply(reply: HelloReply): Buffer
export declare function decodeHelloReply(bytes: Buffer): HelloReply
