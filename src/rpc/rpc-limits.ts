/**
 * Every limit and wait of the gRPC transport, by name. Tests pass smaller ones; processes use the defaults.
 */
export interface RpcLimits {
  /** Largest message that a server takes from a client: a 4 MiB body and its surroundings. */
  readonly clientMessageBytesMax: number
  /** Largest answer that a client takes. */
  readonly replyBytesMax: number
  /** Largest message between replicas, either way. */
  readonly peerMessageBytesMax: number
  /** A stream's `write` returns false above this. */
  readonly streamBufferBytes: number
  /** A stream with this much unsent is broken with OVERLOADED. */
  readonly streamBufferBytesMax: number
  /** A stream whose buffer stays above `streamBufferBytes` for so long is broken with OVERLOADED. */
  readonly streamStalledMs: number
  /** How long a server may take to accept a stream before the caller gets UNAVAILABLE. */
  readonly openTimeoutMs: number
  /**
   * A connection that is not there by then is begun anew. Else one that was begun while a machine was down is only
   * repeated when the kernel thinks fit: up to 32 s after the machine is back.
   */
  readonly connectTimeoutMs: number
  /** The same for a host name: longer than a name server that does not answer keeps the resolver waiting. */
  readonly connectByNameTimeoutMs: number
  /** How long a broken or ended stream may take to flush before it is reset. */
  readonly flushMs: number
  /** After the clean end of its client a server stream that is not ended by its handler is ended by the transport. */
  readonly lingerMs: number
  readonly connectionsMax: number
  /** Streams and calls at a time on one connection. */
  readonly streamsPerConnectionMax: number
  /** A connection that has not spoken HTTP/2 by then is dropped. */
  readonly handshakeMs: number
  /** How often a server asks a silent connection whether it lives, and how long it waits for the answer. */
  readonly serverKeepaliveMs: number
  readonly serverKeepaliveTimeoutMs: number
  readonly metadataBytesMax: number
  readonly metadataEntriesMax: number
  /** HTTP/2 flow control: of a connection, and of one stream on it. */
  readonly connectionWindowBytes: number
  readonly streamWindowBytes: number
}

const mebibyte = 1024 * 1024

export const defaultRpcLimits: RpcLimits = {
  clientMessageBytesMax: 4 * mebibyte + 64 * 1024,
  replyBytesMax: 16 * mebibyte,
  peerMessageBytesMax: 32 * mebibyte,
  streamBufferBytes: mebibyte,
  streamBufferBytesMax: 64 * mebibyte,
  streamStalledMs: 30_000,
  openTimeoutMs: 3000,
  connectTimeoutMs: 2000,
  connectByNameTimeoutMs: 6000,
  flushMs: 1000,
  lingerMs: 30_000,
  connectionsMax: 4096,
  streamsPerConnectionMax: 1024,
  handshakeMs: 10_000,
  serverKeepaliveMs: 2000,
  serverKeepaliveTimeoutMs: 5000,
  metadataBytesMax: 16 * 1024,
  metadataEntriesMax: 64,
  connectionWindowBytes: 16 * mebibyte,
  streamWindowBytes: 16 * mebibyte,
}
