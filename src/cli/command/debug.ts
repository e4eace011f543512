/** `ledgermq debug`: looks into the data of stopped brokers. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { LevelKeyValueEngine, NodeDisk } from '../../../store/index.ts'
import { verifyReplicas } from '../../broker/verify.ts'
import { formatTable, printData, printJson } from '../output.ts'
import { type OutputFlags, withOutput } from '../output-option.ts'

interface Flags extends OutputFlags {
  readonly data: readonly string[]
}

export function registerDebug(program: Command): void {
  const debug = program.command('debug').description('look into the data of stopped brokers')
  withOutput(debug.command('verify'))
    .description('compare the logs of stopped replicas of one broker group byte by byte; exit code 1 if they differ')
    .requiredOption('--data <folders...>', 'data folders of the replicas')
    .action(async (flags: Flags) => {
      const ports = { disk: new NodeDisk('/'), engine: new LevelKeyValueEngine() }
      const result = await verifyReplicas(
        flags.data.map((folder) => resolve(folder)),
        ports,
      )
      if (flags.output === 'json') printJson(result)
      else {
        printData(
          formatTable(result.replicas, [
            { head: 'NODE', cell: (row) => row.node },
            { head: 'LAST', cell: (row) => row.lastIndex },
            { head: 'COMMIT', cell: (row) => row.commitIndex },
            { head: 'SHA-256', cell: (row) => row.sha256 },
            { head: 'DEFECT', cell: (row) => row.defect },
          ]),
        )
        printData(`${result.equal ? 'equal' : 'NOT EQUAL'} up to entry ${result.commitIndex}, ${result.bytes} bytes`)
      }
      if (!result.equal) process.exitCode = 1
    })
}
