import java.sql.*;
import java.util.*;
import java.util.stream.Collectors;

/**
 * What pgjdbc's DatabaseMetaData says of a node's catalog: what connection pools, Hibernate, DBeaver, Metabase and Flyway
 * ask first. Usage: JdbcCatalogTest.java URL
 */
public class JdbcCatalogTest {
    static void check(Object expected, Object actual, String what) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + "\n  expected: " + expected + "\n  got:      " + actual);
        }
    }

    /** The columns of all rows, joined by blanks. */
    static List<String> rows(ResultSet found, String... columns) throws SQLException {
        List<String> rows = new ArrayList<>();
        try (found) {
            while (found.next()) {
                List<String> row = new ArrayList<>();
                for (String column : columns) {
                    row.add(String.valueOf(found.getObject(column)));
                }
                rows.add(String.join(" ", row));
            }
        }
        return rows;
    }

    static void tables(DatabaseMetaData it) throws SQLException {
        check(List.of("counted TABLE null", "plant TABLE what grows", "tall VIEW null"),
            rows(it.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME", "TABLE_TYPE", "REMARKS"), "getTables");
        check(List.of("plant"), rows(it.getTables(null, null, "pla%", new String[] {"TABLE"}), "TABLE_NAME"), "getTables by pattern");
        check(true, rows(it.getTables(null, "pg_catalog", "pg_class", null), "TABLE_TYPE").contains("SYSTEM TABLE"), "system tables");
        check(true, rows(it.getSchemas(), "TABLE_SCHEM").contains("public"), "getSchemas");
        check(true, rows(it.getCatalogs(), "TABLE_CAT").contains("chronos"), "getCatalogs");
        check(true, rows(it.getTableTypes(), "TABLE_TYPE").contains("VIEW"), "getTableTypes");
    }

    static void columns(DatabaseMetaData it) throws SQLException {
        check(List.of(
                "id -5 int8 19 0 NO 1 YES", "name 12 varchar 40 0 NO 2 NO", "code 12 text 2147483647 0 YES 3 NO",
                "height 2 numeric 6 2 YES 4 NO", "seen 93 timestamptz 35 6 YES 5 NO", "tags 2003 _text 2147483647 0 YES 6 NO",
                "facts 1111 jsonb 2147483647 0 YES 7 NO", "uid 1111 uuid 2147483647 0 YES 8 NO", "ok -7 bool 1 0 YES 9 NO"),
            rows(it.getColumns(null, "public", "plant", "%"), "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS",
                "IS_NULLABLE", "ORDINAL_POSITION", "IS_AUTOINCREMENT"), "getColumns");
        check(List.of("1.5 in metres"), rows(it.getColumns(null, null, "plant", "height"), "COLUMN_DEF", "REMARKS"), "a default and a comment");
        check(List.of("YES"), rows(it.getColumns(null, null, "counted", "id"), "IS_AUTOINCREMENT"), "BIGSERIAL");
        check(List.of("id", "name"), rows(it.getColumns(null, null, "tall", "%"), "COLUMN_NAME"), "columns of a view");
        check(List.of(), rows(it.getColumnPrivileges(null, "public", "nothing", "%"), "COLUMN_NAME"), "getColumnPrivileges");
        check(List.of(), rows(it.getTablePrivileges(null, "public", "nothing"), "TABLE_NAME"), "getTablePrivileges");
    }

    static void keys(DatabaseMetaData it) throws SQLException {
        check(List.of("id 1 plant_pkey"), rows(it.getPrimaryKeys(null, "public", "plant"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME"), "getPrimaryKeys");
        check(List.of("site 1", "number 2"), rows(it.getPrimaryKeys(null, null, "counted"), "COLUMN_NAME", "KEY_SEQ"), "a key of two columns");
        check(List.of(), rows(it.getImportedKeys(null, "public", "plant"), "FK_NAME"), "getImportedKeys");
        check(List.of(), rows(it.getExportedKeys(null, "public", "plant"), "FK_NAME"), "getExportedKeys");
        check(List.of(), rows(it.getCrossReference(null, "public", "plant", null, "public", "counted"), "FK_NAME"), "getCrossReference");
        check(List.of("id int8"), rows(it.getBestRowIdentifier(null, "public", "plant", DatabaseMetaData.bestRowSession, false), "COLUMN_NAME", "TYPE_NAME"),
            "getBestRowIdentifier");
        check(List.of(
                "plant_code_key false 1 code A null", "plant_pkey false 1 id A null",
                "plant_tall true 1 name A " + filter(it),
                "plant_when true 1 name A null", "plant_when true 2 seen D null"),
            rows(it.getIndexInfo(null, "public", "plant", false, true), "INDEX_NAME", "NON_UNIQUE", "ORDINAL_POSITION", "COLUMN_NAME",
                "ASC_OR_DESC", "FILTER_CONDITION").stream().sorted().collect(Collectors.toList()), "getIndexInfo");
    }

    /** As the server writes the condition. */
    static String filter(DatabaseMetaData it) throws SQLException {
        try (Statement statement = it.getConnection().createStatement();
             ResultSet found = statement.executeQuery("SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'plant_tall'::regclass")) {
            found.next();
            check(true, found.getString(1).contains("height >"), "a partial index");
            return found.getString(1);
        }
    }

    static void types(DatabaseMetaData it) throws SQLException {
        Set<String> names = new HashSet<>(rows(it.getTypeInfo(), "TYPE_NAME", "DATA_TYPE"));
        for (String type : List.of("int8 -5", "text 12", "bool -7", "numeric 2", "timestamptz 93", "uuid 1111", "_int4 2003", "bytea -2")) {
            check(true, names.contains(type), "getTypeInfo has " + type);
        }
        check(List.of(), rows(it.getUDTs(null, "public", "nothing", null), "TYPE_NAME"), "getUDTs");
        check(List.of(), rows(it.getProcedures(null, "public", "nothing"), "PROCEDURE_NAME"), "getProcedures");
        check(List.of(), rows(it.getProcedureColumns(null, "public", "nothing", null), "COLUMN_NAME"), "getProcedureColumns");
        check(List.of(), rows(it.getFunctions(null, "public", "nothing"), "FUNCTION_NAME"), "getFunctions");
        check(List.of(), rows(it.getFunctionColumns(null, "public", "nothing", null), "COLUMN_NAME"), "getFunctionColumns");
        rows(it.getClientInfoProperties(), "NAME");
        check("PostgreSQL", it.getDatabaseProductName(), "product");
        check(15, it.getDatabaseMajorVersion(), "version");
        check(63, it.getMaxColumnNameLength(), "getMaxColumnNameLength");
        check(true, it.getSQLKeywords().length() > 0, "getSQLKeywords");
        check("public", it.getConnection().getSchema(), "getSchema");
        check(Connection.TRANSACTION_READ_COMMITTED >= 0, it.getDefaultTransactionIsolation() >= 0, "isolation");
    }

    /** What a result says of its columns, looked up by table and column where the driver can. */
    static void results(Connection connection) throws SQLException {
        try (PreparedStatement query = connection.prepareStatement("SELECT id, name, height, tags FROM plant WHERE id = ?")) {
            ResultSetMetaData shown = query.getMetaData();
            check("numeric 6 2", shown.getColumnTypeName(3) + " " + shown.getPrecision(3) + " " + shown.getScale(3), "a result's column");
            check(Types.ARRAY, shown.getColumnType(4), "an array");
            check("int8", query.getParameterMetaData().getParameterTypeName(1), "a parameter");
        }
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO plant (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            insert.setString(1, "ash");
            insert.executeUpdate();
            ResultSet keys = insert.getGeneratedKeys();
            check(true, keys.next() && keys.getLong("id") > 0, "generated keys");
        }
        try (Statement statement = connection.createStatement(); ResultSet found = statement.executeQuery("SELECT name FROM plant")) {
            check(List.of("ash"), rows(found, "name"), "the row");
        }
    }

    public static void main(String[] arguments) throws Exception {
        java.net.URI url = new java.net.URI(arguments[0]);
        String jdbc = "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath() + "?user=" + url.getUserInfo();
        try (Connection connection = DriverManager.getConnection(jdbc)) {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE plant (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name VARCHAR(40) NOT NULL, "
                    + "code TEXT UNIQUE, height NUMERIC(6,2) DEFAULT 1.5 CHECK (height > 0), seen TIMESTAMPTZ, tags TEXT[], facts JSONB, uid UUID, ok BOOL)");
                statement.execute("CREATE TABLE counted (id BIGSERIAL, site TEXT, number SMALLINT, PRIMARY KEY (site, number))");
                statement.execute("CREATE INDEX plant_when ON plant (name, seen DESC)");
                statement.execute("CREATE INDEX plant_tall ON plant (name) WHERE height > 5");
                statement.execute("CREATE VIEW tall AS SELECT id, name FROM plant WHERE height > 5");
                statement.execute("COMMENT ON TABLE plant IS 'what grows'");
                statement.execute("COMMENT ON COLUMN plant.height IS 'in metres'");
            }
            DatabaseMetaData it = connection.getMetaData();
            tables(it);
            columns(it);
            keys(it);
            types(it);
            results(connection);
        }
        System.out.println("JDBC catalog: ok");
    }
}
