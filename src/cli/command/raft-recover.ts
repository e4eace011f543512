/**
 * `ledgermq raft recover`: a group whose majority is lost for good goes on with one survivor. Registered by `raft.ts`.
 *
 * Without `--confirm` it only looks and says what would be lost. It works on stopped brokers, never over the network.
 */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { LevelKeyValueEngine, NodeDisk } from '../../../store/index.ts'
import { forceRecovery, inspectSurvivor, type RecoveryPorts, type Survivor } from '../../broker/forced-recovery.ts'
import { systemClock, systemRandom } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { formatTable, printData, printJson } from '../output.ts'
import { type OutputFlags, withOutput } from '../output-option.ts'

interface Flags extends OutputFlags {
  readonly data: readonly string[]
  readonly confirm?: string
}

export function registerRaftRecover(raft: Command): void {
  withOutput(raft.command('recover'))
    .description('last resort: go on with one survivor after a majority was lost for good (may lose messages)')
    .requiredOption(
      '--data <folders...>',
      'data folders of the stopped survivors: what `broker --data` was given, with fast-try <data>/groups/<group>/<node>',
    )
    .option('--confirm <text>', 'do it: the text that was printed for the one replica to recover')
    .action(async (flags: Flags) => {
      const ports: RecoveryPorts = {
        disk: new NodeDisk('/'),
        engine: new LevelKeyValueEngine(),
        clock: systemClock,
        random: systemRandom,
      }
      const folders = flags.data.map((folder) => resolve(folder))
      if (flags.confirm === undefined) await look(folders, ports, flags.output === 'json')
      else await act(folders, ports, flags.confirm, flags.output === 'json')
    })
}

async function look(folders: readonly string[], ports: RecoveryPorts, isJson: boolean): Promise<void> {
  const survivors: Survivor[] = []
  for (const folder of folders) survivors.push(await inspectSurvivor(folder, ports))
  survivors.sort((a, b) => b.lastTerm - a.lastTerm || b.lastIndex - a.lastIndex)
  if (isJson) {
    printJson(survivors)
    return
  }
  printData(
    formatTable(survivors, [
      { head: 'NODE', cell: (row) => row.node },
      { head: 'LAST TERM', cell: (row) => row.lastTerm },
      { head: 'LAST INDEX', cell: (row) => row.lastIndex },
      { head: 'COMMITTED', cell: (row) => row.commitIndex },
      { head: 'VOTERS', cell: (row) => row.voters.join(' ') },
      { head: 'PROBLEM', cell: (row) => row.problem },
    ]),
  )
  const best = survivors.find((survivor) => survivor.problem === null)
  printData(best ? advice(best) : 'None of these can be recovered.')
}

function advice(best: Survivor): string {
  return [
    '',
    `${best.node} has the most of these. Compare ALL survivors before you go on.`,
    'Recovering LOSES every acknowledged message that only the lost replicas have. If a majority of the voters can be',
    'started again, start it instead. What is recovered is a new group beside the old one: afterwards the other',
    'replicas MUST NOT be started with their old folders. A majority of them would go on as the old group, under the',
    'same name, with clients of its own, and what both acknowledge can never be brought together again.',
    '',
    `To go on:  ledgermq raft recover --data ${best.directory} --confirm "${best.confirmation}"`,
  ].join('\n')
}

async function act(
  folders: readonly string[],
  ports: RecoveryPorts,
  confirmation: string,
  isJson: boolean,
): Promise<void> {
  const [folder, ...others] = folders
  if (folder === undefined || others.length > 0) {
    throw new LedgerError('CONFIG_INVALID', 'data: exactly one folder can be recovered')
  }
  const { node, group, incarnation, lastIndex } = await forceRecovery(folder, ports, confirmation)
  if (isJson) {
    printJson({ node, group, incarnation, lastIndex })
    return
  }
  printData(`${node} is the only voter of ${group} now (incarnation ${incarnation}, last entry ${lastIndex}).`)
  printData('Make sure that no other replica is ever started with its old folder again: together they would be the old')
  printData('group, beside this one. Start this one as before, empty the folders of the others, start them with --join')
  printData('(without --peers and --bootstrap), and add them:')
  printData('  ledgermq raft add <node> <host:raft port>')
}
