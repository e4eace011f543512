/**
 * The configuration of a broker process: keys, flags, file and environment, turned into `BrokerOptions`. A wrong or
 * unknown key stops the start with the key, the reason and a suggestion, before anything is touched.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { BrokerOptions, MemberAddress } from '../broker/options.ts'
import { type ConfigTable, key, readConfig } from '../common/config.ts'
import {
  choiceKind,
  durationKind,
  flagKind,
  integerKind,
  listKind,
  sizeKind,
  textKind,
} from '../common/config-values.ts'
import { LedgerError } from '../common/errors.ts'
import { refuseOpenAddresses } from './open-addresses.ts'

const name = textKind({ pattern: /^[a-zA-Z0-9_-]{1,64}$/, explain: 'a name of up to 64 characters a-z A-Z 0-9 _ -' })
const address = textKind({ pattern: /^[^:\s]+:\d{1,5}$/, explain: 'host:port' })
const mebibyte = 1024 * 1024
const hourMs = 3_600_000

const table = {
  cluster: key(name, { doc: 'Name of the cluster', default: 'RaftCluster', env: 'LEDGERMQ_CLUSTER' }),
  group: key(name, { doc: 'Name of the broker group', default: 'RaftNode00', env: 'LEDGERMQ_GROUP' }),
  node: key(name, { doc: 'Id of this replica within its group, for example n0', env: 'LEDGERMQ_NODE' }),
  listen: key(address, { doc: 'Where to listen for clients, host:port', env: 'LEDGERMQ_LISTEN' }),
  advertised: key(textKind(), {
    doc: 'What clients are told to connect to; the listen address when empty',
    default: '',
  }),
  raftListen: key(textKind(), { doc: 'Where to listen for peers; the own entry of peers when empty', default: '' }),
  peers: key(listKind({ itemsMax: 15 }), {
    doc: 'All initial replicas of the group: n0=host:port,n1=host:port,…; not needed with join',
    default: [],
  }),
  join: key(listKind({ itemsMax: 15 }), {
    doc: 'Raft addresses of replicas of a running group: with an empty data folder, wait until it adds this node',
    default: [],
  }),
  namesrv: key(listKind({ itemsMax: 32 }), {
    doc: 'Every namesrv of the cluster: host:port,…',
    default: ['127.0.0.1:9876'],
  }),
  data: key(textKind(), { doc: 'Data folder of this replica', env: 'LEDGERMQ_DATA' }),
  segmentBytes: key(sizeKind({ min: 8 * mebibyte, max: 4096 * mebibyte }), {
    doc: 'Size of a CommitLog segment, fixed for ever by the first start of the group; when absent, 1 GiB for a new group, else what the group has',
    default: 0,
  }),
  registerInterval: key(durationKind({ min: 1000, max: 60_000 }), {
    doc: 'How often to register with every namesrv',
    default: 30_000,
  }),
  autoCreateTopics: key(choiceKind(['keep', 'on', 'off']), {
    doc: 'Whether clients may have topics created by sending to them: keep what the group has, on, or off',
    default: 'keep',
  }),
  retentionHours: key(integerKind({ min: 1, max: 1_000_000 }), {
    doc: 'How long messages are kept, unless space ends; give all replicas of a group the same',
    default: 72,
  }),
  retentionBytes: key(sizeKind({ min: 0, max: Number.MAX_SAFE_INTEGER }), {
    doc: 'Most bytes of the log that are kept; 0 for no such limit',
    default: 0,
  }),
  bootstrap: key(flagKind, { doc: 'Take part in making the group when the data folder is empty', default: false }),
  insecure: key(flagKind, { doc: 'Allow listening beyond this machine without TLS', default: false }),
  logLevel: key(choiceKind(['debug', 'info', 'warn', 'error']), { doc: 'debug, info, warn or error', default: 'info' }),
} satisfies ConfigTable

/** Flags as commander declares them, made from the table so that there is one list of keys. */
export const brokerFlags: readonly { readonly flag: string; readonly description: string }[] = Object.entries(
  table as ConfigTable,
).map(([camel, entry]) => {
  const kebab = camel.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const isSwitch = entry.kind === flagKind
  const fallback = entry.default === undefined ? ' (required)' : ''
  return { flag: isSwitch ? `--${kebab}` : `--${kebab} <value>`, description: `${entry.doc}${fallback}` }
})

/** Throws CONFIG_INVALID. */
export function brokerOptionsFrom(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): { readonly broker: BrokerOptions; readonly logLevel: string } {
  const { config: file, exitWithStdin: _hidden, ...given } = flags
  const sources = { env, flags: given }
  const config = readConfig(table, typeof file === 'string' ? { ...sources, file: readFile(file) } : sources)
  const members = config.peers.map(parseMember)
  if (members.length === 0 && config.join.length === 0) {
    throw new LedgerError(
      'CONFIG_INVALID',
      'peers: all initial replicas are needed, or join, where to find a running group',
    )
  }
  if (!config.insecure)
    refuseOpenAddresses([config.listen, config.raftListen, ...members.map((member) => member.raftAddress)])
  return {
    logLevel: config.logLevel,
    broker: {
      cluster: config.cluster,
      group: config.group,
      node: config.node,
      directory: resolve(config.data),
      listen: config.listen,
      ...(config.advertised === '' ? {} : { advertised: config.advertised }),
      ...(config.raftListen === '' ? {} : { raftListen: config.raftListen }),
      members,
      bootstrap: config.bootstrap,
      ...(config.join.length > 0 ? { join: config.join } : {}),
      namesrv: config.namesrv,
      ...(config.segmentBytes === 0 ? {} : { segmentBytes: config.segmentBytes }),
      registerIntervalMs: config.registerInterval,
      retention: {
        reservedMs: config.retentionHours * hourMs,
        logBytesMax: config.retentionBytes === 0 ? null : config.retentionBytes,
      },
      ...(config.autoCreateTopics === 'keep'
        ? {}
        : { housekeeping: { autoCreateTopics: config.autoCreateTopics === 'on' } }),
    },
  }
}

function parseMember(text: string): MemberAddress {
  const match = /^([a-zA-Z0-9_-]+)=([^:\s]+:\d{1,5})$/.exec(text)
  if (!match?.[1] || !match[2])
    throw new LedgerError('CONFIG_INVALID', `peers: ${JSON.stringify(text)} is not node=host:port`)
  return { node: match[1], raftAddress: match[2] }
}

function readFile(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new LedgerError('CONFIG_INVALID', `configuration file ${path}: ${reason}`, {}, { cause })
  }
}
