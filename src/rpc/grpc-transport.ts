/**
 * The transport port on gRPC, for processes and for the SDK. The only thing that others need of this folder's gRPC
 * half; it keeps no state of its own.
 */
import type { Clock } from '../common/clock.ts'
import type { Logger } from '../common/logger.ts'
import { GrpcChannel } from './grpc-channel.ts'
import { listenGrpc } from './grpc-server.ts'
import { defaultRpcLimits, type RpcLimits } from './rpc-limits.ts'
import type { Transport } from './transport.ts'

export interface GrpcTransportOptions {
  readonly clock: Clock
  readonly logger: Logger
  /** Limits that differ from `defaultRpcLimits`. */
  readonly limits?: Partial<RpcLimits>
  /** Gets an InvariantError that a handler threw. Default: thrown outside of every catch, which ends the process. */
  readonly onBug?: (error: Error) => void
}

export function createGrpcTransport(options: GrpcTransportOptions): Transport {
  const { clock, logger } = options
  const onBug =
    options.onBug ??
    ((error: Error): void =>
      clock.defer(() => {
        throw error
      }))
  const shared = { clock, logger, limits: { ...defaultRpcLimits, ...options.limits }, onBug }
  return {
    connect: (address, purpose) => new GrpcChannel(shared, address, purpose),
    listen: (address, register) => listenGrpc(shared, address, register),
  }
}
