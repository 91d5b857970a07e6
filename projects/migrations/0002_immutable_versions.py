"""Refuse any change of a frozen dataset version, in the database itself."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION projects_refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a frozen dataset version cannot be changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER projects_datasetversion_frozen BEFORE UPDATE ON projects_datasetversion
    FOR EACH ROW EXECUTE FUNCTION projects_refuse_update();
CREATE TRIGGER projects_datasetversionitem_frozen BEFORE UPDATE ON projects_datasetversionitem
    FOR EACH ROW EXECUTE FUNCTION projects_refuse_update();
"""

BACKWARD = """
DROP TRIGGER projects_datasetversionitem_frozen ON projects_datasetversionitem;
DROP TRIGGER projects_datasetversion_frozen ON projects_datasetversion;
DROP FUNCTION projects_refuse_update();
"""


class Migration(migrations.Migration):
    dependencies = [("projects", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
