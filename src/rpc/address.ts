/** `host:port` as written in configuration and routes; IPv6 hosts stand in brackets. Pure; used by the transport. */
import { LedgerError } from '../common/errors.ts'

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Throws CONFIG_INVALID when the text is no `host:port`. */
export function parseAddress(address: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(address)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65535) {
    throw new LedgerError('CONFIG_INVALID', `${JSON.stringify(address)} is no address of the form host:port`)
  }
  return { host, port }
}

export function formatAddress({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
